"""The rows of a comparison of runs: runs that differ in their seed alone are one row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from microlens.data.interactions import Int64
from microlens.data.split import Part
from microlens.errors import InputError
from microlens.evaluation.metrics import Users, one_each
from microlens.evaluation.report import read_ranks
from microlens.evaluation.significance import difference, holm, interval_of, seed_values
from microlens.runs.assembly import depends_on_seed
from microlens.runs.input_files import recorded_inputs
from microlens.runs.run import Run

Line: TypeAlias = dict[str, str | int | float | None]


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """A configuration: its name, the number of its runs (None if they are all the same), and the ranks of each."""

    name: str
    seeds: int | None
    ranks: list[Int64]


def rows_of(runs: Sequence[Run], part: Part) -> tuple[list[ComparedRow], Users | None]:
    """The configurations of runs, and the user of each target, or None if each has one."""
    groups = _by_configuration(runs)
    if len(groups) < 2:
        raise InputError(
            f"the {len(runs)} runs differ in nothing but their seed, and seeds of one configuration are averaged; name "
            "runs of at least two configurations."
        )
    rankings = [[read_ranks(run.folder)[part] for run in group] for group in groups]
    users = rankings[0][0][1]
    if any(not np.array_equal(others, users) for group in rankings for _, others in group):
        raise InputError("the runs have different targets; train them on the same data with the same protocol.")
    names = [group[0].name for group in groups]
    rows = [
        ComparedRow(
            name=name if names.count(name) == 1 else str(group[0].folder),
            seeds=len(group) if depends_on_seed(group[0].config) else None,
            ranks=[ranks for ranks, _ in of_group],
        )
        for name, group, of_group in zip(names, groups, rankings, strict=True)
    ]
    return rows, None if one_each(users) else users


def _by_configuration(runs: Sequence[Run]) -> list[list[Run]]:
    """Group runs that differ only in their seed; a repeated seed starts a new group, and so do other input files."""
    groups: list[tuple[object, list[Run]]] = []
    for run in runs:
        configuration = run.config.model_copy(update={"seed": 0}).hash, recorded_inputs(run.folder)
        fitting = (
            group
            for key, group in groups
            if key == configuration and all(run.config.seed != other.config.seed for other in group)
        )
        group = next(fitting, None)
        if group is None:
            groups.append((configuration, [run]))
        else:
            group.append(run)
    return [group for _, group in groups]


def lines_of(rows: Sequence[ComparedRow], metric: str, users: Users | None) -> list[Line]:
    """A line of the table for each row: the metric, the difference from the first row, its interval and p-values."""
    apart = [difference(row.ranks, rows[0].ranks, metric, users) for row in rows[1:]]
    corrected = [None, *holm([found["p"] for found in apart])]
    lines: list[Line] = []
    for row, found, p in zip(rows, [{}, *apart], corrected, strict=True):
        values = seed_values(row.ranks, metric, users)
        low, high = interval_of(values)
        lines.append(
            {
                "metric": metric,
                "run": row.name,
                "seeds": row.seeds,
                "value": float(values.mean()),
                "low": low,
                "high": high,
                "difference": found.get("mean"),
                "difference_low": found.get("low"),
                "difference_high": found.get("high"),
                "p": p,
            }
        )
    return lines
