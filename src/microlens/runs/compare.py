"""Comparison of finished runs: metrics with confidence intervals, and paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from microlens.data.interactions import Int64
from microlens.data.split import Part
from microlens.errors import InputError
from microlens.evaluation.metrics import METRICS, Users, one_each
from microlens.evaluation.report import read_ranks
from microlens.evaluation.significance import difference, holm, interval_of, seed_values
from microlens.runs.assembly import depends_on_seed
from microlens.runs.run import Run


def compare(
    runs: Sequence[Run | str | Path], metrics: Sequence[str] = ("HR@10", "NDCG@10"), part: Part = "test"
) -> pl.DataFrame:
    """Compare runs on the same targets; the first run is the baseline.

    Runs whose configurations differ in nothing but the seed count as one, named after the first of them. Intervals and
    tests are over users and seeds, see :mod:`microlens.evaluation.significance`. With a single run they are over users
    only: they tell these two trained models apart, and leave out how much another seed would change them. To compare
    configurations, give at least three seeds of each.

    Args:
        runs: runs, or their folders, of at least two configurations on the same data and protocol.
        metrics: names of :data:`microlens.evaluation.metrics.METRICS`.
        part: "valid" or "test".

    Returns:
        One row per metric and configuration: metric, run, seeds (the number of runs; null if the model does not depend
        on the seed), value, low and high (mean over seeds and its 95 % interval), difference, difference_low and
        difference_high (difference to the first and its 95 % interval), and p, the p-value of a paired t-test with
        Holm's correction for the number of rows. The last four are null in the first row.

    Raises:
        InputError: there are fewer than two configurations, a run is unfinished or damaged, they differ in data or
            protocol, or a metric is unknown.
    """
    opened = [run if isinstance(run, Run) else Run(run) for run in runs]
    _check(opened, metrics)
    rows, users = _rows(opened, part)
    compared = [line for metric in metrics for line in _lines(rows, metric, users)]
    kinds = {"metric": pl.String, "run": pl.String, "seeds": pl.Int64}
    return pl.DataFrame(compared, schema={**kinds, **dict.fromkeys(list(compared[0])[3:], pl.Float64)})


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A configuration: its name, the number of its runs (None if they are all the same), and the ranks of each."""

    name: str
    seeds: int | None
    ranks: list[Int64]


def _rows(runs: Sequence[Run], part: Part) -> tuple[list[_Row], Users | None]:
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
        _Row(
            name=name if names.count(name) == 1 else str(group[0].folder),
            seeds=len(group) if depends_on_seed(group[0].config) else None,
            ranks=[ranks for ranks, _ in of_group],
        )
        for name, group, of_group in zip(names, groups, rankings, strict=True)
    ]
    return rows, None if one_each(users) else users


def _by_configuration(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in the seed alone, together; a seed that is there again begins another group."""
    groups: list[tuple[str, list[Run]]] = []
    for run in runs:
        configuration = run.config.model_copy(update={"seed": 0}).hash
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


def _lines(rows: Sequence[_Row], metric: str, users: Users | None) -> list[dict[str, str | int | float | None]]:
    apart = [difference(row.ranks, rows[0].ranks, metric, users) for row in rows[1:]]
    corrected = [None, *holm([found["p"] for found in apart])]
    lines: list[dict[str, str | int | float | None]] = []
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


def _check(runs: Sequence[Run], metrics: Sequence[str]) -> None:
    if len(runs) < 2:
        raise InputError(f"{len(runs)} runs were given; a comparison needs at least two.")
    for metric in metrics:
        if metric not in METRICS:
            raise InputError(f"there is no metric '{metric}'; accepted are {', '.join(METRICS)}.")
    first, *others = runs
    for run in others:
        for what, key in (("data", "data_hash"), ("protocol", "hash")):
            mine, theirs = (
                (one.report.provenance if key == "data_hash" else one.report.protocol)[key] for one in (first, run)
            )
            if mine != theirs:
                raise InputError(
                    f"{first.folder} and {run.folder} differ in their {what}; compare runs on the same data and "
                    "protocol."
                )
