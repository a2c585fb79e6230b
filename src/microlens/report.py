"""What a run reports: ranks, metrics by cohort with intervals, cost, and what is needed to reproduce them."""

import io
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from microlens.data.interactions import Int64
from microlens.data.split import Part, Split
from microlens.errors import InputError
from microlens.metrics import all_metrics, bootstrap_intervals, one_each
from microlens.run_files import (
    CONFIG,
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

POPULARITY_GROUPS = 5
PARTS: tuple[Part, ...] = ("valid", "test")
COHORTS = ("all", "warm", "cold", *(f"popularity-{group}" for group in range(1, POPULARITY_GROUPS + 1)))


def cohorts(split: Split, part: Part) -> dict[str, npt.NDArray[np.bool_]]:
    """Which targets of ``part`` belong to each cohort: masks (Q,).

    A warm target occurs in the train part, a cold one does not. ``popularity-1`` to ``popularity-5`` cut the warm items
    into five groups of equally many items, the least popular first (ties by item number).
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

    ``metrics``, ``intervals`` and ``num_targets`` are keyed by part ("valid", "test") and cohort; metrics are shares
    between 0 and 1, intervals 95 % bootstrap intervals over users.
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
            InputError: there is none; it, the ranks or the configuration beside it are not those that were written; or
                its numbers are not those of the ranks.
        """
        check(folder, REPORT, RANKS, CONFIG)
        return cls.parsed(folder)

    @classmethod
    def parsed(cls, folder: Path) -> Self:
        """As :meth:`read`, without a look into the run's manifest."""
        path = folder / REPORT
        if not path.is_file():
            raise InputError(f"{folder} holds no {REPORT}; train the run to its end first.")
        try:
            report = cls(**json.loads(path.read_text(encoding="utf-8")))
            agree = report._agrees_with(read_ranks(folder))
        except InputError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise InputError(f"{path} is not a report of this version of microlens.") from None
        if not agree:
            raise InputError(
                f"{path} holds other numbers than {RANKS} beside it gives: one of them was changed by hand; "
                f"{way_out(folder)}"
            )
        return report

    def _agrees_with(self, ranks: dict[Part, tuple[Int64, Int64]]) -> bool:
        for part in PARTS:
            stated, found = self.metrics[part]["all"], all_metrics(*ranks[part])
            if stated.keys() != found.keys() or self.num_targets[part]["all"] != len(ranks[part][0]):
                return False
            # Processors add in different orders: a run folder that was moved has the same numbers but for rounding.
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
    """Write ``ranks.npy``, (2, U): the rank of every user's validation (row 0) and test target (row 1).

    Where a user may have several targets it is (4, Q), rows 2 and 3 naming the user of each; the part with fewer
    targets is filled up with 0.
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
    """Read what :func:`write_ranks` wrote: of each part the ranks (Q,) and the users (Q,) of its targets.

    Raises:
        InputError: the file is missing or holds something else.
    """
    path = folder / RANKS
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        rows = None
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or len(rows) not in (2, 4) or rows.dtype.kind not in "iu":
        raise InputError(f"{path} is missing or no table of ranks; train the run again.")
    read: dict[Part, tuple[Int64, Int64]] = {}
    for number, part in enumerate(PARTS):
        filled = rows[number] > 0
        users = rows[number + 2] if len(rows) == 4 else np.arange(rows.shape[1])
        read[part] = rows[number][filled], users[filled]
    return read


def check_run(folder: Path) -> tuple[dict[str, State], list[str]]:
    """How every file of a run folder is, by name, and a sentence for everything that is not as it should be.

    See :func:`microlens.run_files.states`; a report has to agree with the ranks beside it, too.
    """
    files: dict[str, State] = {}
    try:
        files = states(folder)
        found = problems(folder, files)
        if not found and (folder / REPORT).exists():
            Report.read(folder)
    except InputError as error:
        found = [str(error)]
    return files, found


def adopt_run(folder: Path) -> None:
    """Write the manifest of a run folder of an earlier version, which has none, from its files as they are.

    Raises:
        InputError: it has one, or its report does not agree with the ranks beside it.
    """
    if (folder / REPORT).exists():
        Report.parsed(folder)
    adopt(folder)
