"""Tables for the terminal. Functions import what they need, so that a table of names waits for nothing else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from microlens.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from microlens.bench.sheets import Sheet
    from microlens.cli.option_rows import OptionRow
    from microlens.cost import EncoderCost
    from microlens.evaluation.report import Report
    from microlens.runs.dry_run import RunCost

COST_CAPTION = """all: millions of parameters, with a projection to 512 and without a classifier
frozen, top1, lora: of these, trained by the regime; full and scratch: all
GMACs: billions of multiply-adds of the forward pass of one item
kB: size of an item's raw content, and of its trunk cache by regime
limit: largest possible speedup of a step by a top1 cache, from multiply-adds"""


def metrics_table(metrics: Mapping[str, Mapping[str, Mapping[str, float]]], num_targets: Mapping[str, Any]) -> Table:
    """One row per part and cohort, with metrics in percent."""
    from microlens.evaluation.metrics import reported_names, reported_value
    from microlens.evaluation.report import COHORTS

    names = reported_names(metrics["test"]["all"])
    table = Table("part", "targets", *(_right(name) for name in ("number", *names)))
    for part, by_cohort in metrics.items():
        for cohort in COHORTS:
            if num_targets[part][cohort]:
                values = (f"{100 * reported_value(by_cohort[cohort], metric):.2f} %" for metric in names)
                table.add_row(part, cohort, f"{num_targets[part][cohort]:,}", *values)
        table.add_section()
    return table


def comparison_table(reports: "Mapping[str, Report]") -> Table:
    """Test metrics of runs in percent, for all, warm and cold targets, with the 95 % interval of HR@10 over users."""
    from microlens.evaluation.metrics import reported_names, reported_value
    from microlens.evaluation.report import COHORTS

    some = next(iter(reports.values()))
    names = reported_names(some.metrics["test"]["all"])
    table = Table("targets", "run", *(_right(name) for name in ("HR@10", "95 % interval", *names[1:])))
    table.title = f"{some.dataset}, test, full ranking, percent"
    table.caption = f"protocol {some.protocol['hash']}; data {some.provenance['data_hash'][:12]}"
    for cohort in COHORTS[:3]:
        number = some.num_targets["test"][cohort]
        for index, (name, report) in enumerate(reports.items()):
            values = report.metrics["test"][cohort]
            if values:
                low, high = report.intervals["test"][cohort]["HR@10"]
                first, *others = (f"{100 * reported_value(values, metric):.2f}" for metric in names)
                interval = f"{100 * low:.2f}-{100 * high:.2f}"
                table.add_row("" if index else f"{cohort} ({number:,})", name, first, interval, *others)
        table.add_section()
    return table


def sheet_table(sheet: "Sheet") -> Table:
    """One sheet of a table of runs."""
    table = Table(
        Column("", no_wrap=True), *(_right(column) for column in sheet.columns), box=SIMPLE_HEAD, title=sheet.title
    )
    table.caption, table.caption_justify = "\n".join(sheet.notes), "left"
    for group, rows in sheet.groups.items():
        table.add_row(group, style="bold")
        for name, *cells in rows:
            table.add_row(f"  {name}", *cells)
    return table


def trial_table(trials: "pl.DataFrame", most: int = 10) -> Table:
    """The best trials of a search, sorted by validation metric in descending order."""
    metric = trials.columns[2]
    best = trials.sort(metric, descending=True, nulls_last=True).head(most).drop("fault")
    table = Table(*(_right(column) for column in best.columns), box=SIMPLE_HEAD)
    for row in best.iter_rows(named=True):
        percent = {metric: None if row[metric] is None else f"{100 * row[metric]:.2f} %"}
        table.add_row(*("-" if value is None else _short(value) for value in (row | percent).values()))
    return table


def run_cost_table(costs: "Mapping[str, RunCost]") -> Table:
    """What runs will cost, one column per run; dashes where a model is fitted at once."""
    table = Table("", *map(_right, costs), box=SIMPLE_HEAD)
    facts: dict[str, Callable[[RunCost], str]] = {
        "parameters": lambda cost: f"{cost.parameters:,}",
        "trained": lambda cost: f"{cost.trainable_parameters:,}",
        "G multiply-adds a step": lambda cost: f"{cost.flops_per_step / 2e9:,.3g}",
        "steps an epoch": lambda cost: f"{cost.steps_per_epoch:,}",
        "s of training an epoch": lambda cost: f"{cost.training_seconds:,.1f}",
        "s of validation an epoch": lambda cost: f"{cost.validation_seconds:,.1f}",
        "epochs at most": lambda cost: f"{cost.most_epochs:,}",
        "hours at most": lambda cost: f"{cost.most_epochs * cost.seconds_per_epoch / 3600:,.2f}",
    }
    for number, (name, fact) in enumerate(facts.items()):
        table.add_row(name, *(fact(cost) if number < 2 or cost.steps_per_epoch else "-" for cost in costs.values()))
    table.add_row("peak memory, MB", *(f"{cost.peak_memory_bytes / 1e6:,.0f}" for cost in costs.values()))
    return table


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def recommendation_table(recommended: "pl.DataFrame", history: Sequence[object]) -> Table:
    """One row per recommended item; an added video, which has no id, may follow with a rank beyond the list."""
    read = ", ".join(map(str, history))
    table = Table(_right("rank"), _right("item"), "title", _right("score"), title=f"after {read}", title_justify="left")
    for number, row in enumerate(recommended.iter_rows(named=True), 1):
        if row["rank"] != number:
            table.add_section()
        item = "added" if row["item"] is None else str(row["item"])
        table.add_row(f"{row['rank']:,}", item, row["title"], f"{row['score']:.3f}")
    return table


def frame_table(frame: "pl.DataFrame") -> Table:
    """A table with the columns of a data frame; numbers are right-aligned."""
    table = Table(*(_right(name) if kind.is_numeric() else name for name, kind in frame.schema.items()))
    for row in frame.iter_rows():
        table.add_row(*("-" if value is None else _short(value) for value in row))
    return table


def option_table(rows: "Iterable[OptionRow]") -> Table:
    """One row per name, with the options that a configuration may set."""
    table = Table("name", "options", "description")
    for row in rows:
        table.add_row(*row)
    return table


def cost_table(costs: "Sequence[EncoderCost]") -> Table:
    """One row per encoder; if training steps were measured, with columns for their time and memory."""
    some = next((cost.measured for cost in costs if cost.measured), None)
    counted = ("all", "frozen", "top1", "lora", "GMACs", "raw kB", "top1 kB", "frozen kB", "limit")
    measured = ("s/step", "peak GB") if some else ()
    columns = [Column(name, justify="right", overflow="fold") for name in (*counted, *measured)]
    table = Table(Column("encoder", no_wrap=True), *columns, box=SIMPLE_HEAD, padding=0, caption_justify="left")
    table.caption = COST_CAPTION
    if some:
        table.caption += f"\ns/step, peak GB: a training step under full, {some.batch_size} items, {some.device}"
    for cost in costs:
        trained = (cost.trainable_parameters[regime] for regime in ("frozen", "top1", "lora"))
        stored = (cost.raw_bytes, cost.cached_bytes["top1"], cost.cached_bytes["frozen"])
        table.add_row(
            cost.encoder,
            *("-" if number is None else f"{number / 1e6:.2f}" for number in (cost.parameters, *trained)),
            f"{cost.multiply_adds / 1e9:.2f}",
            *(f"{number / 1e3:,.{0 if number >= 1e5 else 1}f}" for number in stored),
            f"{cost.speedup_limit:.2f}",
            *_measured_cells(cost),
        )
    return table


def _measured_cells(cost: "EncoderCost") -> Sequence[str]:
    if cost.measured is None:
        return ()
    return f"{cost.measured.seconds_per_step:.3f}", f"{cost.measured.peak_memory_bytes / 1e9:.2f}"


def dataset_table(folder: Path) -> Table:
    """One row per prepared dataset in ``folder``."""
    from microlens.data.manifest import read_manifest

    table = Table(
        Column("folder", no_wrap=True),
        "name",
        *(_right(name) for name in ("users", "items", "interactions", "clips", "covers", "sound")),
    )
    for path in sorted(folder.glob("*/manifest.json")):
        try:
            manifest, _ = read_manifest(path.parent)
        except InputError:
            table.add_row(str(path.parent), "damaged")
            continue
        release, counts = manifest.counts.release, manifest.counts
        numbers = (release.users, release.items, release.interactions, counts.clips, counts.covers, counts.sound)
        table.add_row(str(path.parent), manifest.name, *(f"{number:,}" for number in numbers))
    return table


def _right(name: str) -> Column:
    return Column(name, justify="right")
