"""The report of a run: ranks, metrics by cohort with intervals, cost, and provenance."""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, FiniteFloat, NonNegativeInt, field_validator, model_validator

from microlens.data.arrays import open_array
from microlens.data.interactions import Int64
from microlens.data.split import Part, Split
from microlens.errors import InputError
from microlens.evaluation.metrics import METRICS, all_metrics, bootstrap_intervals, one_each
from microlens.files.json_files import parse_json, read_json
from microlens.files.run_manifest import (
    CONFIG,
    EPOCHS,
    RANKS,
    REPORT,
    State,
    adopt,
    check,
    problems,
    replace_text,
    replaced,
    states,
    way_out,
)

Share = Annotated[float, Field(ge=0, le=1 + 1e-9)]
TRAIN_AGAIN = "train the run again with fresh=True"
POPULARITY_GROUPS = 5
PARTS: tuple[Part, ...] = ("valid", "test")
COHORTS = ("all", "warm", "cold", *(f"popularity-{group}" for group in range(1, POPULARITY_GROUPS + 1)))


def cohorts(split: Split, part: Part) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks (Q,) of the targets of ``part`` that belong to each cohort.

    A warm target occurs in the training set, a cold one does not. ``popularity-1`` to ``popularity-5`` divide the warm
    items into five groups of equally many items, the least popular first (ties by item number).
    """
    targets = split.targets(part)
    counts = split.train_counts
    warm_items = np.flatnonzero(counts)
    by_popularity = warm_items[np.argsort(counts[warm_items], kind="stable")]
    group = np.zeros(split.num_items + 1, np.int64)
    for number, members in enumerate(np.array_split(by_popularity, POPULARITY_GROUPS), 1):
        group[members] = number
    warm = counts[targets] > 0
    masks = {"all": np.ones(len(targets), bool), "warm": warm, "cold": ~warm}
    return masks | {f"popularity-{number}": group[targets] == number for number in range(1, POPULARITY_GROUPS + 1)}


@dataclass(frozen=True, kw_only=True)
class Report:
    """The contents of ``report.json``.

    ``metrics``, ``intervals`` and ``num_targets`` are keyed by part ("valid", "test") and cohort. Metrics are fractions
    between 0 and 1, intervals are 95 % bootstrap intervals over users.
    """

    dataset: str
    protocol: dict[str, Any]
    model: str
    encoder: str
    metrics: dict[str, dict[str, dict[str, float]]]
    intervals: dict[str, dict[str, dict[str, list[float]]]]
    num_targets: dict[str, dict[str, int]]
    cost: dict[str, Any]
    provenance: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``report.json`` of a run folder.

        Raises:
            InputError: there is none; the report, ranks or configuration differ from those that were written; or the
                report's numbers do not agree with the ranks.
        """
        check(folder, REPORT, RANKS, CONFIG)
        return cls.parsed(folder)

    @classmethod
    def parsed(cls, folder: Path) -> Self:
        """Read as :meth:`read`, but without checking the run's manifest."""
        path = folder / REPORT
        if not path.is_file():
            raise InputError(f"{folder} holds no {REPORT}; train the run to its end first.")
        read_json(path, _ReportSchema, TRAIN_AGAIN)
        table = json.loads(path.read_text(encoding="utf-8"))
        report = cls(**{field.name: table[field.name] for field in fields(cls)})
        if not report._agrees_with(read_ranks(folder)):
            raise InputError(
                f"{path} does not agree with {RANKS} beside it: one of them was changed by hand; {way_out(folder)}"
            )
        return report

    def _agrees_with(self, ranks: dict[Part, tuple[Int64, Int64]]) -> bool:
        for part in PARTS:
            stated, found = self.metrics[part]["all"], all_metrics(*ranks[part])
            if stated.keys() != found.keys() or self.num_targets[part]["all"] != len(ranks[part][0]):
                return False
            # Summation order differs between processors, so a copied run folder agrees up to rounding.
            if not all(math.isclose(stated[name], value, rel_tol=1e-9) for name, value in found.items()):
                return False
        return True

    def write(self, folder: Path) -> None:
        """Write ``report.json`` into a run folder."""
        replace_text(folder, REPORT, json.dumps(asdict(self), indent=1) + "\n")


def measure(split: Split, ranks: dict[Part, Int64]) -> dict[str, Any]:
    """The fields metrics, intervals and num_targets of a :class:`Report`, from the ranks (Q,) of each part."""
    measured: dict[str, Any] = {"metrics": {}, "intervals": {}, "num_targets": {}}
    for part in ranks:
        masks, users = cohorts(split, part), split.target_users(part)
        shares = {name: (ranks[part][mask], users[mask]) for name, mask in masks.items()}
        measured["metrics"][part] = {name: all_metrics(*share) for name, share in shares.items()}
        measured["intervals"][part] = {name: bootstrap_intervals(*share) for name, share in shares.items()}
        measured["num_targets"][part] = {name: int(mask.sum()) for name, mask in masks.items()}
    return measured


def write_ranks(folder: Path, ranks: dict[Part, Int64], split: Split) -> None:
    """Write ``ranks.npy``, (2, U): the rank of each user's validation target (row 0) and test target (row 1).

    If users can have several targets it is (4, Q), where rows 2 and 3 hold the user of each target; the part with fewer
    targets is padded with 0.
    """
    rows = [ranks[part] for part in PARTS]
    users = [split.target_users(part) for part in PARTS]
    if any(len(of_part) != split.num_users or not one_each(of_part) for of_part in users):
        rows += users
    content, width = io.BytesIO(), max(map(len, rows))
    np.save(content, np.stack([np.pad(row, (0, width - len(row))) for row in rows]))
    with replaced(folder, RANKS) as temporary:
        temporary.write_bytes(content.getvalue())


def read_ranks(folder: Path) -> dict[Part, tuple[Int64, Int64]]:
    """Read the file of :func:`write_ranks`: for each part the ranks (Q,) and the users (Q,) of its targets.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = folder / RANKS
    rows = np.array(open_array(path, ndim=2, dtype=np.int64, remedy=TRAIN_AGAIN))
    if len(rows) not in (2, 4) or rows.min() < 0:
        raise InputError(f"{path} is damaged (it holds {len(rows)} rows, or ranks below 0); {TRAIN_AGAIN}.")
    read: dict[Part, tuple[Int64, Int64]] = {}
    for number, part in enumerate(PARTS):
        filled = rows[number] > 0
        users = rows[number + 2] if len(rows) == 4 else np.arange(rows.shape[1])
        read[part] = rows[number][filled], users[filled]
    return read


def check_run(folder: str | Path) -> tuple[dict[str, State], list[str]]:
    """Check a run folder: the state of each file, by name, and a sentence for each problem.

    See :func:`microlens.files.run_manifest.states`; a report must also agree with the ranks beside it.
    """
    folder = Path(folder)
    files: dict[str, State] = {}
    try:
        files = states(folder)
        found = problems(folder, files)
        if not found and (folder / REPORT).exists():
            Report.read(folder)
    except InputError as error:
        found = [str(error)]
    return files, found


def adopt_run(folder: str | Path) -> None:
    """Write the manifest of a run folder of an earlier version, which has none, from its current files.

    Raises:
        InputError: there is a manifest, or the report does not agree with the ranks beside it.
    """
    folder = Path(folder)
    if (folder / REPORT).exists():
        Report.parsed(folder)
    adopt(folder)


def read_epochs(folder: Path, report: Report) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``, one per epoch counted by ``report``; empty if nothing was trained.

    Raises:
        InputError: the file is missing or damaged, or the number of lines differs.
    """
    check(folder, EPOCHS)
    path, epochs = folder / EPOCHS, report.cost["epochs"]
    if not epochs:
        return []
    if not path.is_file():
        raise InputError(f"{path} is missing; {TRAIN_AGAIN}.")
    return check_epochs(path.read_bytes().splitlines(), epochs, path, TRAIN_AGAIN)


def check_epochs(lines: Sequence[str | bytes], epochs: int, path: Path, remedy: str) -> list[dict[str, Any]]:
    """Parse the JSON ``lines`` of ``path``, one for each of the first ``epochs`` epochs.

    Raises:
        InputError: a line is damaged, or their number or order is wrong.
    """
    numbers = [parse_json(line, _EpochSchema, path, remedy).epoch for line in lines]
    if len(numbers) != epochs or numbers != list(range(1, len(numbers) + 1)):
        raise InputError(f"{path} is damaged (it does not have a line for each of {epochs} epochs); {remedy}.")
    return [json.loads(line) for line in lines]


class _EpochSchema(BaseModel):
    epoch: int
    loss: FiniteFloat
    seconds: FiniteFloat
    valid: dict[str, FiniteFloat]

    @field_validator("valid")
    @classmethod
    def _all_metrics(cls, valid: dict[str, float]) -> dict[str, float]:
        return _require_keys(valid, METRICS)


class _ProtocolSchema(BaseModel):
    hash: str
    split: Literal["leave-one-out", "random", "global-time", "cold-items", "given"]
    require: list[str]
    min_length: int
    max_length: int
    max_history: int
    min_item_count: int = 0


class _CostSchema(BaseModel):
    parameters: int
    trainable_parameters: int
    flops_per_step: FiniteFloat
    seconds_per_epoch: FiniteFloat
    epochs: NonNegativeInt
    best_epoch: NonNegativeInt
    peak_memory_bytes: FiniteFloat
    device: str
    processes: int
    # Reports of the first versions lack these.
    seconds: FiniteFloat = 0.0
    multiply_adds_per_item: FiniteFloat = 0.0

    @model_validator(mode="after")
    def _best_is_one_of_all(self) -> Self:
        if not bool(self.epochs) <= self.best_epoch <= self.epochs:
            raise ValueError(f"best_epoch is {self.best_epoch} of {self.epochs}")
        return self


class _ProvenanceSchema(BaseModel):
    commit: str
    seed: int
    config_hash: str
    data_hash: str
    packages: dict[str, str]


class _ReportSchema(BaseModel):
    """The validated fields of a report; others are allowed."""

    dataset: str
    protocol: _ProtocolSchema
    model: str
    encoder: str
    metrics: dict[str, dict[str, dict[str, Share]]]
    intervals: dict[str, dict[str, dict[str, tuple[Share, Share]]]]
    num_targets: dict[str, dict[str, NonNegativeInt]]
    cost: _CostSchema
    provenance: _ProvenanceSchema

    @model_validator(mode="after")
    def _every_cohort(self) -> Self:
        for part in PARTS:
            for cohort, targets in _require_keys(_require_keys(self.num_targets, PARTS)[part], COHORTS).items():
                for values in (self.metrics, self.intervals):
                    found = _require_keys(_require_keys(values, PARTS)[part], COHORTS)[cohort]
                    _require_keys(found, METRICS if targets else ())
        return self


def _require_keys(values: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    missing = next((name for name in names if name not in values), None)
    if missing is not None:
        raise ValueError(f"'{missing}' is missing")
    return values
