"""Formatting of the cells of a sheet, from a row of a table's JSON."""

from collections.abc import Callable
from typing import Any

from microlens.bench.differences import significant
from microlens.evaluation.metrics import METRICS
from microlens.evaluation.report import POPULARITY_GROUPS

Row = dict[str, Any]
Cell = Callable[[Row], str]


def metrics_published(results: dict[str, Any]) -> list[str]:
    """The metrics that the paper prints for at least one row."""
    return [metric for metric in METRICS if any(metric in (row["published"] or {}) for row in results["rows"])]


def with_interval(cohort: str, metric: str) -> Cell:
    """A cell with a metric of a cohort in percent and its interval."""

    def cell(row: Row) -> str:
        if not row["test"][cohort]:
            return "-"
        low, high = row["intervals"][cohort][metric]
        return f"{100 * row['test'][cohort][metric]:.2f} ({100 * low:.2f}-{100 * high:.2f})"

    return cell


def of_cohort(cohort: str, metric: str) -> Cell:
    """A cell with a metric of a cohort in percent; HR@10 of known and of new items with its interval."""
    if metric == "HR@10" and cohort in ("warm", "cold"):
        return with_interval(cohort, metric)
    return lambda row: percent(row["test"][cohort].get(metric))


def times_reference(cohort: str, rows: dict[str, Row]) -> Cell:
    """A cell with the ratio of a row's HR@10 on a cohort to that of its reference row."""

    def cell(row: Row) -> str:
        if not row["difference"]:
            return "-"
        ours, theirs = (of["test"][cohort].get("HR@10") for of in (row, rows[row["difference"]["against"]]))
        return f"{ours / theirs:.2f}" if ours is not None and theirs else "-"

    return cell


def ahead(metric: str) -> Cell:
    """A cell with a row's lead over its reference, its interval, and * if the difference is significant."""

    def cell(row: Row) -> str:
        if row["difference"] is None:
            return "-"
        found = row["difference"][metric]
        mean, low, high = (100 * found[name] for name in ("mean", "low", "high"))
        return f"{mean:+.2f} ({low:+.2f} to {high:+.2f}){'*' if significant(row['difference'], metric) else ''}"

    return cell


def seed_count(row: Row) -> str:
    """The number of runs and the standard deviation between them; "deterministic" if the seed has no influence."""
    if not row.get("depends_on_seed", True):
        return "deterministic"
    if len(row["seeds"]) == 1:
        return "1, users only"
    spread = f" ({100 * row['deviation']['HR@10']:.2f})" if row["deviation"] else ""
    return f"{len(row['seeds'])}{spread}"


def paper_metrics(row: Row, results: dict[str, Any]) -> str:
    """The metrics that the paper prints for a row."""
    if not row["published"]:
        return "-"
    return ", ".join(percent(row["published"].get(metric)) for metric in metrics_published(results))


def paper_ratios(row: Row) -> str:
    """The paper's ratios by popularity group."""
    published = row["published"] or {}
    groups = range(1, POPULARITY_GROUPS + 1)
    return ", ".join(f"{published[f'ratio-{group}']:g}" for group in groups) if "ratio-1" in published else "-"


def paper_costs(row: Row) -> str:
    """The costs that the paper prints for a row."""
    names = ("#Param.", "FLOPs", "Time/E", "BE", "MU", "GPU")
    return ", ".join(str(row["published"][name]) for name in names) if row["published"] else "-"


def percent(share: float | None) -> str:
    """A fraction in percent, with two decimals."""
    return "-" if share is None else f"{100 * share:.2f}"


def millions(number: int) -> str:
    """A count in millions."""
    return f"{number / 1e6:.2f} M" if number else "-"


def billions(number: int) -> str:
    """A count in billions."""
    return f"{number / 1e9:.3g}" if number else "-"


def duration(seconds: float) -> str:
    """Seconds, with at least two digits."""
    return f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.2g}"


def slice_cell(kind: str, name: str) -> Cell:
    """A cell with HR@10 on a slice, in percent."""
    return lambda row: percent(row[kind].get(name, {}).get("HR@10"))


def beyond_cell(name: str) -> Cell:
    """A cell with a metric beyond accuracy."""

    def cell(row: Row) -> str:
        value = (row["beyond"] or {}).get(name)
        if value is None:
            return "-"
        return f"{100 * value:.1f} %" if name.startswith("coverage") else f"{value:.3g}"

    return cell
