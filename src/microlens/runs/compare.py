"""Comparison of finished runs: metrics with confidence intervals, and paired differences."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from microlens.data.split import Part
from microlens.errors import InputError
from microlens.evaluation.metrics import METRICS, one_each
from microlens.evaluation.report import read_ranks
from microlens.evaluation.significance import difference, holm
from microlens.runs.run import Run


def compare(
    runs: Sequence[Run | str | Path], metrics: Sequence[str] = ("HR@10", "NDCG@10"), part: Part = "test"
) -> pl.DataFrame:
    """Compare runs on the same targets; the first run is the baseline.

    Args:
        runs: at least two runs, or their folders, on the same data and protocol.
        metrics: names of :data:`microlens.evaluation.metrics.METRICS`.
        part: "valid" or "test".

    Returns:
        One row per metric and run: metric, run, value, low and high (95 % bootstrap interval over users), difference,
        difference_low and difference_high (difference to the first run and its 95 % interval), and p, the p-value of a
        paired t-test over users with Holm's correction for the number of runs. The last four are null in the first run.

    Raises:
        InputError: there are fewer than two runs, one is unfinished or damaged, they differ in data or protocol, or a
            metric is unknown.
    """
    opened = [run if isinstance(run, Run) else Run(run) for run in runs]
    _check(opened, metrics)
    names = [run.name for run in opened]
    labels = [name if names.count(name) == 1 else str(run.folder) for name, run in zip(names, opened, strict=True)]
    rankings = [read_ranks(run.folder)[part] for run in opened]
    users = rankings[0][1]
    if any(not np.array_equal(others, users) for _, others in rankings):
        raise InputError("the runs have different targets; train them on the same data with the same protocol.")
    of_user = None if one_each(users) else users
    rows = []
    for metric in metrics:
        apart = [difference([ranks], [rankings[0][0]], metric, of_user) for ranks, _ in rankings[1:]]
        corrected = holm([found["p"] for found in apart])
        for number, (label, run) in enumerate(zip(labels, opened, strict=True)):
            low, high = run.report.intervals[part]["all"][metric]
            found = apart[number - 1] if number else {}
            rows.append(
                {
                    "metric": metric,
                    "run": label,
                    "value": run.report.metrics[part]["all"][metric],
                    "low": low,
                    "high": high,
                    "difference": found.get("mean"),
                    "difference_low": found.get("low"),
                    "difference_high": found.get("high"),
                    "p": corrected[number - 1] if number else None,
                }
            )
    schema = {"metric": pl.String, "run": pl.String, **dict.fromkeys(list(rows[0])[2:], pl.Float64)}
    return pl.DataFrame(rows, schema=schema)


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
