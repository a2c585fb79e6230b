"""Reading of a table's declaration and of the configurations of its rows."""

import json
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from microlens.bench.rows import Bench, Job, Row, placed, quoted
from microlens.building import nearest
from microlens.config.run_config import RunConfig
from microlens.config.sections import PartSection
from microlens.data.dataset import Dataset
from microlens.data.protocol import NAMED_PROTOCOLS, Protocol
from microlens.errors import InputError

NO_CONFIGURATION = "no configuration"
_SMOKE_TRAIN, _SMOKE_DIM = {"epochs": 1, "batch_size": 32}, 16
SMOKE = (*(f"train.{name}={value}" for name, value in _SMOKE_TRAIN.items()), f"model.dim={_SMOKE_DIM}")


def table_names() -> list[str]:
    """The names of all tables, sorted."""
    return sorted(Path(entry.name).stem for entry in (files(__package__) / "tables").iterdir())


def check_table(name: str) -> None:
    """Check that a table has this name.

    Raises:
        InputError: none has.
    """
    if name not in table_names():
        raise InputError(f"there is no table '{name}'; {nearest(name, table_names())}")


def dataset_folder(dataset: str) -> Path:
    """The folder of a dataset, given as a path or by its name in ``datasets/``."""
    path = Path(dataset)
    return path if path.exists() or len(path.parts) > 1 else Path("datasets") / dataset


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The user's choices for a table.

    Args:
        configs: folder of the rows' configurations; by default ``configs/DATASET``.
        output: folder of runs and tables; by default ``runs/bench/DATASET``.
        only: names of the rows to use, or of their configurations; all rows if empty.
        against: name of a row, or of its configuration, to use as reference in place of the table's own.
        source: prepared dataset for rows that start from the weights of a run on another dataset.
        seeds: number of runs per row.
        protocol: a name of :data:`microlens.data.protocol.NAMED_PROTOCOLS`, applied to every row.
        smoke: train each row for one epoch with small vectors, to test that everything works.
        mix: allow rows of different protocols in one table, which is then noted in it.
    """

    configs: Path | None = None
    output: Path | None = None
    only: tuple[str, ...] = ()
    against: str | None = None
    source: Path | None = None
    seeds: int = 1
    protocol: str = "paper"
    smoke: bool = False
    mix: bool = False


def read_bench(name: str, dataset: Path, choices: Choices | None = None) -> Bench:
    """Read a table of this package and the configurations of its rows.

    Args:
        name: name of the table.
        dataset: a prepared dataset.
        choices: see :class:`Choices`.

    Raises:
        InputError: there is no such table, dataset, protocol or row, or no configuration at all; a configuration does
            not load; or rows to be compared follow different protocols.
    """
    choices = choices or Choices()
    check_table(name)
    if choices.protocol not in NAMED_PROTOCOLS:
        raise InputError(f"there is no protocol '{choices.protocol}'; {nearest(choices.protocol, NAMED_PROTOCOLS)}")
    declared = _declared(name)
    reader = _Reader(declared, dataset, choices)
    bench = Bench(
        name=name,
        title=declared["title"],
        dataset=dataset,
        data_hash=reader.data_hash,
        output=reader.output,
        published=_published(declared["paper"], dataset),
        seeds=choices.seeds,
        mixed=choices.mix,
        protocol=choices.protocol,
        variant="-".join([*(["some-rows"] if choices.only else []), *(["smoke"] if choices.smoke else [])]),
    )
    _add_rows(bench, reader, _wanted(declared, choices.only))
    if not bench.rows and set(bench.left_out.values()) != {NO_CONFIGURATION}:
        raise InputError(f"no row of the table '{name}' can be made: {next(iter(bench.left_out.values()))}")
    if not bench.rows:
        raise InputError(
            f"{reader.configs} holds no configuration of the table '{name}'; say where they are with configs=FOLDER."
        )
    if not choices.mix:
        _refuse_mixed_protocols(bench.rows, by_group=declared.get("protocol_by_group", False))
    return bench


def _declared(name: str) -> dict[str, Any]:
    """The declaration of a table, in which a row with ``tuned = CONFIG`` is followed by a row of its own for CONFIG."""
    declared = tomllib.loads((files(__package__) / "tables" / f"{name}.toml").read_text(encoding="utf-8"))
    for group in declared["groups"]:
        group["rows"] = [one for row in group["rows"] for one in _with_tuned(row)]
    return declared


def _with_tuned(row: dict[str, Any]) -> list[dict[str, Any]]:
    if "tuned" not in row:
        return [row]
    return [row, {"name": f"{row['name']}, tuned", "config": row["tuned"], "optional": True}]


class _Reader:
    """Combines declared rows with their configurations."""

    def __init__(self, declared: dict[str, Any], dataset: Path, choices: Choices) -> None:
        self.declared, self.dataset, self.choices = declared, dataset, choices
        self.data = Dataset(dataset)
        self.data_hash = self.data.checksum
        self.configs = choices.configs or Path("configs") / dataset.resolve().name
        self.output = choices.output or Path("runs") / "bench" / dataset.resolve().name
        self.against = self._named(choices.against) if choices.against else None
        followed = NAMED_PROTOCOLS[choices.protocol]
        self.protocol = [f"protocol.{name}={json.dumps(value)}" for name, value in followed.items()]

    def _named(self, name: str) -> str:
        rows = [(group, row) for group in self.declared["groups"] for row in group["rows"]]
        names = {_config_name(group, row): row["name"] for group, row in reversed(rows)}
        names |= {row["name"]: row["name"] for _, row in rows}
        if name not in names:
            raise InputError(f"against: {name} is no row; {nearest(name, names)}")
        return str(names[name])

    def obstacle(self, group: dict[str, Any], row: dict[str, Any]) -> str | None:
        """The reason why a row cannot be run: no configuration, or a protocol that leaves no users; None if it can."""
        path = self.configs / f"{_config_name(group, row)}.toml"
        if not path.is_file():
            return NO_CONFIGURATION
        protocol = RunConfig.load(path, self._assignments(group, row)).protocol
        try:
            self.data.split(Protocol(**protocol.model_dump()))
        except InputError as error:
            return str(error)
        return None

    def row(self, group: dict[str, Any], row: dict[str, Any]) -> Row:
        """Build a row with its configuration."""
        path = self.configs / f"{_config_name(group, row)}.toml"
        assignments = [*self._assignments(group, row), *(SMOKE if self.choices.smoke else [])]
        start = self._source_job(row, path, assignments) if row.get("from_source") else None
        if start is not None:
            best = start.folder / "checkpoints" / "best.safetensors"
            assignments.append(f"train.start_from={quoted(best)}")
        return Row(
            group=group["name"],
            name=row["name"],
            config_path=path,
            config=self._config(path, assignments, self.dataset, self.output),
            data_hash=self.data_hash,
            paper=row.get("paper", row["name"]),
            against=self.against or group.get("against") or self.declared["against"],
            from_source=start,
        )

    def _assignments(self, group: dict[str, Any], row: dict[str, Any]) -> list[str]:
        return [*self.protocol, *group.get("set", []), *row.get("set", [])]

    def _source_job(self, row: dict[str, Any], path: Path, assignments: list[str]) -> Job:
        source = self.choices.source
        if source is None:
            raise InputError(f"the row '{row['name']}' starts from another dataset; name it with source=DATASET.")
        config = self._config(path, assignments, source, self.output.parent / source.resolve().name)
        return Job(name=f"{row['name']}, on the source", config=config, data_hash=Dataset(source).checksum)

    def _config(self, path: Path, assignments: list[str], dataset: Path, output: Path) -> RunConfig:
        config = RunConfig.load(path, assignments).on_dataset(dataset)
        if self.choices.smoke:
            config = config.model_copy(update={"parts": tuple(_smallest(part) for part in config.parts)})
        return placed(config, output, path.stem)


def _smallest(part: PartSection) -> PartSection:
    """A part of a fusion with the options of ``SMOKE``."""
    model, train = part.model.model_copy(update={"dim": _SMOKE_DIM}), part.train.model_copy(update=_SMOKE_TRAIN)
    return part.model_copy(update={"model": model, "train": train})


def _add_rows(bench: Bench, reader: _Reader, wanted: set[str]) -> None:
    """Add the wanted rows to a table, or to its ``left_out`` where they cannot be run."""
    declared = [(group, row) for group in reader.declared["groups"] for row in group["rows"] if row["name"] in wanted]
    for group, row in declared:
        reason = reader.obstacle(group, row)
        if reason is None:
            bench.rows.append(reader.row(group, row))
        elif reason != NO_CONFIGURATION or not row.get("optional"):
            bench.left_out[row["name"]] = reason


def _config_name(group: dict[str, Any], row: dict[str, Any]) -> str:
    return str(row.get("config") or group["config"])


def _wanted(declared: dict[str, Any], only: tuple[str, ...]) -> set[str]:
    rows = [(row["name"], _config_name(group, row)) for group in declared["groups"] for row in group["rows"]]
    names = {name for pair in rows for name in pair}
    for name in only:
        if name not in names:
            raise InputError(f"only: {name} is no row; {nearest(name, sorted(names))}")
    return {name for name, config in rows if not only or name in only or config in only}


def _refuse_mixed_protocols(rows: list[Row], *, by_group: bool) -> None:
    first: dict[str, Row] = {}
    for row in rows:
        other = first.setdefault(row.group if by_group else "", row)
        if row.config.protocol != other.config.protocol:
            raise InputError(
                f"{other.config_path} and {row.config_path} have different [protocol] tables, so their numbers cannot "
                "stand in one table; give them the same one, leave rows out, or accept them with mix=True."
            )


def _published(tables: dict[str, str], dataset: Path) -> dict[str, Any]:
    name = tables.get(dataset.resolve().name, tables["default"])
    text = (files(__package__) / "paper" / f"{name}.json").read_text(encoding="utf-8")
    published: dict[str, Any] = json.loads(text)
    return published
