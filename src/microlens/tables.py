"""Tables for the terminal."""

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.table import Column, Table

from microlens.metrics import METRICS
from microlens.recommend import Recommendations
from microlens.report import COHORTS, Report

# Constructor parameters that the data gives and a configuration cannot set; ``dim`` is set once, for model and encoder.
_GIVEN = {"self", "dim", "num_items", "item_ids", "history_length", "train_counts", "item_encoder"}


def metrics_table(metrics: Mapping[str, Mapping[str, Mapping[str, float]]], num_targets: Mapping[str, Any]) -> Table:
    """One row a part and cohort, metrics in percent."""
    table = Table("part", "targets", *(_right(name) for name in ("number", *METRICS)))
    for part, by_cohort in metrics.items():
        for cohort in COHORTS:
            if num_targets[part][cohort]:
                values = (f"{100 * by_cohort[cohort][metric]:.2f} %" for metric in METRICS)
                table.add_row(part, cohort, f"{num_targets[part][cohort]:,}", *values)
        table.add_section()
    return table


def comparison_table(reports: Mapping[str, Report]) -> Table:
    """One row a run: test HR and NDCG at 10, percent, on all, warm and cold targets, with their 95 % intervals."""
    some = next(iter(reports.values()))
    title = (
        f"{some.dataset}, test, full ranking, protocol {some.protocol['hash']}; percent with 95 % intervals over users"
    )
    table = Table("run", title=title)
    for cohort in COHORTS[:3]:
        number = some.num_targets["test"][cohort]
        for metric in METRICS[:2]:
            table.add_column(f"{metric} {cohort}\n({number:,} targets)", justify="right")
    table.add_column("parameters", justify="right")
    table.add_column("seconds\nan epoch", justify="right")
    for name, report in reports.items():
        cells = [_with_interval(report, cohort, metric) for cohort in COHORTS[:3] for metric in METRICS[:2]]
        cost = report.cost
        table.add_row(name, *cells, f"{cost['trainable_parameters']:,}", f"{cost['seconds_per_epoch']:.1f}")
    return table


def _with_interval(report: Report, cohort: str, metric: str) -> str:
    values = report.metrics["test"][cohort]
    if not values:
        return "-"
    low, high = report.intervals["test"][cohort][metric]
    return f"{100 * values[metric]:.2f}\n{100 * low:.2f}-{100 * high:.2f}"


def recommendation_table(recommendations: Recommendations) -> Table:
    """The recommended items, and the place of an added video."""
    read = ", ".join(str(item_id) for item_id, _ in recommendations.history)
    table = Table(_right("rank"), _right("item"), "title", _right("score"), title=f"after {read}", title_justify="left")
    for item in recommendations.items:
        table.add_row(
            str(item.rank), "added" if item.item_id is None else str(item.item_id), item.title, f"{item.score:.3f}"
        )
    added = recommendations.added
    if added and added.rank > len(recommendations.items):
        table.add_section()
        table.add_row(f"{added.rank} of {recommendations.num_candidates:,}", "added", added.title, f"{added.score:.3f}")
    return table


def option_table(constructors: Mapping[str, Callable[..., Any]]) -> Table:
    """One row a name, with the options a configuration may set."""
    table = Table("name", "options", "what it is")
    for name, constructor in constructors.items():
        parameters = inspect.signature(constructor).parameters.values()
        options = [
            parameter.name
            if parameter.default is parameter.empty
            else f"{parameter.name} = {json.dumps(parameter.default)}"
            for parameter in parameters
            if parameter.name not in _GIVEN
        ]
        summary = (inspect.getdoc(constructor) or "").partition("\n")[0]
        table.add_row(name, ", ".join(options) or "-", summary)
    return table


def dataset_table(folder: Path) -> Table:
    """One row a prepared dataset below ``folder``."""
    table = Table(
        "folder", "name", *(_right(name) for name in ("users", "items", "interactions", "clips", "covers", "sound"))
    )
    for path in sorted(folder.glob("*/manifest.json")):
        manifest = json.loads(path.read_text())
        counts = manifest["counts"]
        numbers = [*counts["release"].values(), counts["clips"], counts["covers"], counts["sound"]]
        table.add_row(str(path.parent), manifest["name"], *(f"{number:,}" for number in numbers))
    return table


def _right(name: str) -> Column:
    return Column(name, justify="right")
