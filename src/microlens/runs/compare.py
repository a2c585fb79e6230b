"""Comparison of finished runs: metrics with confidence intervals, and paired differences."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from microlens.data.split import Part, check_part
from microlens.errors import InputError
from microlens.evaluation.metrics import reported_names
from microlens.runs.compared_rows import lines_of, rows_of
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
        metrics: metrics that the reports have, such as "HR@10", and "Recall@10" where users have several targets.
        part: "valid" or "test".

    Returns:
        One row per metric and configuration: metric, run, seeds (the number of runs; null if the model does not depend
        on the seed), value, low and high (mean over seeds and its 95 % interval), difference, difference_low and
        difference_high (difference to the first and its 95 % interval), and p, the p-value of a paired t-test with
        Holm's correction for the number of rows. The last four are null in the first row.

    Raises:
        InputError: there are fewer than two configurations, a run is unfinished or damaged, they differ in data or
            protocol, or a metric or the part is unknown.
    """
    check_part(part)
    opened = [run if isinstance(run, Run) else Run(run) for run in runs]
    _check(opened, metrics)
    rows, users = rows_of(opened, part)
    compared = [line for metric in metrics for line in lines_of(rows, metric, users)]
    kinds = {"metric": pl.String, "run": pl.String, "seeds": pl.Int64}
    return pl.DataFrame(compared, schema={**kinds, **dict.fromkeys(list(compared[0])[3:], pl.Float64)})


def _check(runs: Sequence[Run], metrics: Sequence[str]) -> None:
    if len(runs) < 2:
        raise InputError(f"{len(runs)} runs were given; a comparison needs at least two.")
    first, *others = runs
    names = reported_names(first.report.metrics["test"]["all"])
    for metric in metrics:
        if metric not in names:
            raise InputError(f"there is no metric '{metric}'; accepted are {', '.join(names)}.")
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
