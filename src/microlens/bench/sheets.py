"""A table's JSON as sheets that a terminal and Markdown show alike."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from microlens.bench.rows import Bench
from microlens.files import write_text
from microlens.metrics import METRICS

Cell = Callable[[dict[str, Any]], str]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Titled columns, rows in named groups, and notes below."""

    title: str
    columns: list[str]
    groups: dict[str, list[list[str]]]
    notes: list[str]


def sheets(results: dict[str, Any]) -> list[Sheet]:
    """What :func:`microlens.bench.collect` gave as three sheets: accuracy, warm and cold targets, and cost."""
    numbers = results["num_targets"] or dict.fromkeys(("all", "warm", "cold"), 0)
    against = results["against"]
    accuracy: dict[str, Cell] = {
        "HR@10": lambda row: _with_interval(row, "all", "HR@10"),
        "NDCG@10": lambda row: _with_interval(row, "all", "NDCG@10"),
        "HR@20": lambda row: _with_interval(row, "all", "HR@20"),
        "NDCG@20": lambda row: _with_interval(row, "all", "NDCG@20"),
    }
    if against:
        accuracy[f"HR@10 vs {against}"] = lambda row: _difference(row, "HR@10")
        accuracy[f"NDCG@10 vs {against}"] = lambda row: _difference(row, "NDCG@10")
    accuracy[f"paper, {results['published']['dataset']}: HR@10, NDCG@10, HR@20, NDCG@20"] = _published
    by_cohort: dict[str, Cell] = {
        f"{cohort} {metric}": _cohort_cell(cohort, metric) for cohort in ("warm", "cold") for metric in METRICS
    }
    cost: dict[str, Cell] = {
        "trained parameters": lambda row: _millions(row["cost"]["trainable_parameters"]),
        "s an epoch": lambda row: _seconds(row["cost"]["seconds_per_epoch"]) if row["cost"]["epochs"] else "-",
        "epochs (best)": _epochs,
        "s of training": lambda row: _seconds(row["cost"]["seconds"]),
        "peak memory, MB": lambda row: f"{row['cost']['peak_memory_bytes'] / 1e6:,.0f}",
        "valid HR@10": lambda row: f"{100 * row['valid']['HR@10']:.2f}",
        "run": lambda row: f"{row['config']}, {row['config_hash']}, seed {row['seed']}, {(row['commit'] or '-')[:7]}",
    }
    title = f"{results['title']} on {results['dataset']}"
    return [
        _sheet(f"{title}: {numbers['all']:,} test targets, percent", accuracy, results, _accuracy_notes(results)),
        _sheet(f"{title}: {numbers['warm']:,} warm and {numbers['cold']:,} cold targets, percent", by_cohort, results),
        _sheet(f"{title}: cost", cost, results),
    ]


def write_results(bench: Bench, results: dict[str, Any]) -> list[Sheet]:
    """Write the JSON and the Markdown of a table into its folder; returns its sheets."""
    write_text(bench.output / f"{bench.name}.json", json.dumps(results, indent=1) + "\n")
    write_text(bench.output / f"{bench.name}.md", markdown(results))
    return sheets(results)


def markdown(results: dict[str, Any]) -> str:
    """The sheets as Markdown."""
    return "\n".join(_markdown_sheet(sheet) for sheet in sheets(results))


def _markdown_sheet(sheet: Sheet) -> str:
    lines = [
        f"**{sheet.title}**",
        "",
        f"| | {' | '.join(sheet.columns)} |",
        "|---" + "|---:" * len(sheet.columns) + "|",
    ]
    for group, rows in sheet.groups.items():
        lines.append(f"| **{group}** |" + " |" * len(sheet.columns))
        lines += [f"| {' | '.join(row)} |" for row in rows]
    notes = [f"- {note}" for note in sheet.notes]
    return "\n".join([*lines, "", *notes, *([""] if notes else [])])


def _sheet(title: str, cells: dict[str, Cell], results: dict[str, Any], notes: Sequence[str] = ()) -> Sheet:
    groups: dict[str, list[list[str]]] = {}
    for row in results["rows"]:
        groups.setdefault(row["group"], []).append([row["name"], *(cell(row) for cell in cells.values())])
    return Sheet(title=title, columns=list(cells), groups=groups, notes=list(notes))


def _accuracy_notes(results: dict[str, Any]) -> list[str]:
    notes = ["Brackets: 95 % bootstrap intervals over users. Full ranking, ties against the model."]
    if results["against"]:
        notes.append(f"Differences from {results['against']}: of the same users, a paired bootstrap.")
    notes.append(f"The paper's numbers: {results['published']['source']}; other data, so only their order compares.")
    notes += [f"{row['name']}: the paper's row is {row['published_fault']}." for row in _of(results, "published_fault")]
    made = {(file["file"], file["encoder"]) for row in _of(results, "features") for file in row["features"]}
    notes += [f"V: {file}, made by the encoder {encoder}." for file, encoder in sorted(made)]
    notes += [f"{name} is missing: {why}" + "." * (not why.endswith(".")) for name, why in results["missing"].items()]
    protocol = results["protocol"].get("hash", "-")
    notes.append(f"Protocol {protocol}; data {results['data_hash'][:12]}.")
    return notes


def _of(results: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [row for row in results["rows"] if row[name]]


def _with_interval(row: dict[str, Any], cohort: str, metric: str) -> str:
    if not row["test"][cohort]:
        return "-"
    low, high = row["intervals"][cohort][metric]
    return f"{100 * row['test'][cohort][metric]:.2f} ({100 * low:.2f}-{100 * high:.2f})"


def _cohort_cell(cohort: str, metric: str) -> Cell:
    if metric == "HR@10":
        return lambda row: _with_interval(row, cohort, metric)
    return lambda row: f"{100 * row['test'][cohort][metric]:.2f}" if row["test"][cohort] else "-"


def _difference(row: dict[str, Any], metric: str) -> str:
    if row["difference"] is None:
        return "-"
    mean, low, high = (100 * value for value in row["difference"][metric])
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def _published(row: dict[str, Any]) -> str:
    if row["published"] is None:
        return "-"
    return ", ".join(f"{100 * row['published'][metric]:.2f}" for metric in METRICS)


def _millions(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number else "-"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.2g}"


def _epochs(row: dict[str, Any]) -> str:
    cost = row["cost"]
    return f"{cost['epochs']} ({cost['best_epoch']})" if cost["epochs"] else "-"
