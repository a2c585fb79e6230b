"""What a table of runs consists of."""

import json
import tomllib
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from microlens.building import nearest
from microlens.config import RunConfig
from microlens.data.dataset import Dataset
from microlens.errors import InputError
from microlens.report import Report


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run of a table: its group, name and configuration, and the name of the paper's row that it answers."""

    group: str
    name: str
    config_path: Path
    config: RunConfig
    paper: str

    @property
    def folder(self) -> Path:
        """The run folder; its name changes with the configuration."""
        return self.config.output

    def report(self, data_hash: str) -> Report | None:
        """The report of the finished run, or None while there is none of this configuration and this data."""
        if not (self.folder / "report.json").exists() or not (self.folder / "ranks.npy").exists():
            return None
        report = Report.read(self.folder)
        provenance = report.provenance
        is_this = (provenance["config_hash"], provenance["data_hash"]) == (self.config.hash, data_hash)
        return report if is_this else None


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A table: its rows in order, those that have no configuration, and what they are compared with.

    ``against`` is the configuration's name of the row that all others are compared with; ``published`` holds the
    paper's numbers: "dataset", "source", "faults" and "rows", the latter two keyed by the paper's names.
    """

    name: str
    title: str
    dataset: Path
    data_hash: str
    output: Path
    against: str
    published: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    without_config: list[str] = field(default_factory=list)


def dataset_folder(dataset: str) -> Path:
    """The folder of a dataset given as a path, or by its name in ``datasets/``."""
    path = Path(dataset)
    return path if path.exists() or len(path.parts) > 1 else Path("datasets") / dataset


def read_bench(
    name: str,
    dataset: Path,
    *,
    configs: Path | None = None,
    output: Path | None = None,
    only: list[str] | None = None,
    against: str | None = None,
) -> Bench:
    """Read a table of this package and the configurations of its rows.

    Args:
        name: the table's name.
        dataset: a prepared dataset.
        configs: the folder of the rows' configurations; ``configs/`` and the dataset's name if not given.
        output: where runs and tables go; ``runs/bench/``, the table's and the dataset's name if not given.
        only: names of the rows wanted, or of their configurations; all of them if not given.
        against: the configuration's name of the row to compare with, in place of the table's own.

    Raises:
        InputError: there is no such table, dataset or row, no configuration at all, one does not load, or the rows
            follow different protocols.
    """
    tables = {Path(entry.name).stem: entry for entry in files(__package__).iterdir() if entry.name.endswith(".toml")}
    if name not in tables:
        raise InputError(f"there is no table '{name}'; {nearest(name, tables)}")
    declared = tomllib.loads(tables[name].read_text(encoding="utf-8"))
    folder = configs or Path("configs") / dataset.resolve().name
    output = output or Path("runs") / "bench" / f"{name}-{dataset.resolve().name}"
    bench = Bench(
        name=name,
        title=declared["title"],
        dataset=dataset,
        data_hash=Dataset(dataset).checksum,
        output=output,
        against=against or declared["against"],
        published=_published(declared["paper"], dataset),
    )
    wanted = _wanted(declared, only)
    for group in declared["groups"]:
        for row in group["rows"]:
            path = folder / f"{row['config']}.toml"
            if row["config"] not in wanted:
                continue
            if path.is_file():
                paper = row.get("paper", row["name"])
                bench.rows.append(_row(group["name"], row["name"], paper, path, bench))
            else:
                bench.without_config.append(row["name"])
    if not bench.rows:
        raise InputError(f"{folder} holds no configuration of the table '{name}'; say where they are with --configs.")
    _refuse_mixed_protocols(bench.rows)
    if against is not None and against not in {row.config_path.stem for row in bench.rows}:
        raise InputError(f"--against {against} is no row; {nearest(against, [r.config_path.stem for r in bench.rows])}")
    return bench


def _wanted(declared: dict[str, Any], only: list[str] | None) -> set[str]:
    names = {row["name"]: row["config"] for group in declared["groups"] for row in group["rows"]}
    names |= {config: config for config in names.values()}
    for name in only or []:
        if name not in names:
            raise InputError(f"--only {name} is no row; {nearest(name, names)}")
    return {names[name] for name in only} if only else set(names.values())


def _row(group: str, name: str, paper: str, path: Path, bench: Bench) -> Row:
    dataset = f"dataset={json.dumps(str(bench.dataset))}"
    config = RunConfig.load(path, [dataset])
    output = bench.output / f"{path.stem}-{config.hash}"
    config = RunConfig.load(path, [dataset, f"output={json.dumps(str(output))}"])
    return Row(group=group, name=name, paper=paper, config_path=path, config=config)


def _refuse_mixed_protocols(rows: list[Row]) -> None:
    first = rows[0]
    for row in rows:
        if row.config.protocol != first.config.protocol:
            raise InputError(
                f"{first.config_path} and {row.config_path} have different [protocol] tables, so their numbers cannot "
                "stand in one table; give them the same one, or leave rows out with --only."
            )


def _published(tables: dict[str, str], dataset: Path) -> dict[str, Any]:
    name = tables.get(dataset.resolve().name, tables["default"])
    text = (files(__package__) / "paper" / f"{name}.json").read_text(encoding="utf-8")
    published: dict[str, Any] = json.loads(text)
    return published
