"""A table's JSON as sheets, which are shown in terminals, Markdown, LaTeX, CSV and HTML."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from microlens.bench.cells import (
    Cell,
    ahead,
    beyond_cell,
    billions,
    duration,
    metrics_published,
    millions,
    of_cohort,
    paper_costs,
    paper_metrics,
    paper_ratios,
    percent,
    seed_count,
    slice_cell,
    times_reference,
    with_interval,
)
from microlens.bench.curves import cut_off_notes, epoch_count, trainings
from microlens.bench.seed_notes import interval_notes
from microlens.building import listed
from microlens.data.protocol import described
from microlens.evaluation.metrics import METRICS, OF_SEVERAL
from microlens.evaluation.report import POPULARITY_GROUPS

_POPULARITY_NOTE = "Training items in five groups of equal size, 1 the least popular."


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table with a title, columns, rows in named groups, and notes."""

    title: str
    columns: list[str]
    groups: dict[str, list[list[str]]]
    notes: list[str]


def sheets(results: dict[str, Any]) -> list[Sheet]:
    """Convert the output of :func:`microlens.bench.collect` to sheets: accuracy, slices, beyond accuracy, and cost."""
    title = table_title(results)
    targets = {cohort: _targets(results, cohort) for cohort in ("all", "warm", "cold")}
    found = [
        _sheet(f"{title}: {targets['all']} test targets, percent", _accuracy(results), results, notes(results)),
        _sheet(
            f"{title}: {targets['warm']} warm and {targets['cold']} cold targets, percent",
            {f"{cohort} {metric}": of_cohort(cohort, metric) for cohort in ("warm", "cold") for metric in METRICS},
            results,
        ),
        _sheet(
            f"{title}: HR@10 by popularity of the target, percent", _popularity(results), results, [_POPULARITY_NOTE]
        ),
        _sheet(f"{title}: HR@10 by length of the user's history and by tag, percent", _slices(results), results),
        _sheet(f"{title}: beyond accuracy, first ten", _beyond(results), results, _beyond_notes(results)),
        _sheet(f"{title}: cost", _cost(results), results, _cost_notes(results)),
        *([_counted(results)] if results["counted"] else []),
    ]
    return [sheet for sheet in found if sheet.columns]


def table_title(results: dict[str, Any]) -> str:
    """The title of a table, including its protocol unless it is the paper's."""
    title = f"{results['title']} on {results['dataset']}"
    protocol = results.get("protocol_name", "paper")
    return title if protocol == "paper" else f"{title}, protocol {protocol}"


def fitting(sheet: Sheet, width: int) -> Sheet:
    """Keep as many of the first columns as fit into ``width`` characters, with a note if columns are left out."""
    rows = [row for rows in sheet.groups.values() for row in rows]
    cells = zip(["", *sheet.columns], *rows, strict=True)
    widths = [max(map(len, (max(head.split(" ") or [""], key=len), *values))) + 3 for head, *values in cells]
    kept = max(2, sum(total <= width for total in accumulate(widths)))
    if kept > len(sheet.columns):
        return sheet
    groups = {group: [row[:kept] for row in rows] for group, rows in sheet.groups.items()}
    note = f"{len(sheet.columns) - kept + 1} more columns are in the files; a wider terminal shows them."
    return replace(sheet, columns=sheet.columns[: kept - 1], groups=groups, notes=[*sheet.notes, note])


def _sheet(title: str, cells: dict[str, Cell], results: dict[str, Any], notes: Sequence[str] = ()) -> Sheet:
    groups: dict[str, list[list[str]]] = {}
    for row in results["rows"]:
        groups.setdefault(row["group"], []).append([row["name"], *(cell(row) for cell in cells.values())])
    return Sheet(title=title, columns=list(cells), groups=groups, notes=list(notes))


def _targets(results: dict[str, Any], cohort: str) -> str:
    numbers = sorted({row["num_targets"][cohort] for row in results["rows"]} or {0})
    return f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"


def _accuracy(results: dict[str, Any]) -> dict[str, Cell]:
    shown = [*METRICS, *(name for name in OF_SEVERAL if any(name in row["test"]["all"] for row in results["rows"]))]
    cells: dict[str, Cell] = {metric: with_interval("all", metric) for metric in shown}
    cells["seeds (deviation of HR@10)"] = seed_count
    if any(trainings(row) for row in results["rows"]):
        cells["epochs (best)"] = epoch_count
    references = reference_names(results)
    if references:
        what = references[0] if len(references) == 1 else "the group's first"
        for metric in ("HR@10", "NDCG@10"):
            cells[f"{metric} vs {what}"] = ahead(metric)
    if any(row["published"] and METRICS[0] in row["published"] for row in results["rows"]):
        dataset = results["published"]["dataset"]
        cells[f"paper, {dataset}: {', '.join(metrics_published(results))}"] = lambda row: paper_metrics(row, results)
    if any("ACC@5" in (row["published"] or {}) for row in results["rows"]):
        cells["paper, Kinetics-400: ACC@5"] = lambda row: percent((row["published"] or {}).get("ACC@5"))
    return cells


def reference_names(results: dict[str, Any]) -> list[str]:
    """The rows that others are compared with, in order."""
    return list(dict.fromkeys(row["difference"]["against"] for row in results["rows"] if row["difference"]))


def _popularity(results: dict[str, Any]) -> dict[str, Cell]:
    names = [f"popularity-{number}" for number in range(1, POPULARITY_GROUPS + 1)]
    cells: dict[str, Cell] = {f"group {name[-1]}": of_cohort(name, "HR@10") for name in names}
    references = {row["name"]: row for row in results["rows"]}
    if len(reference_names(results)) == 1:
        cells |= {
            f"{name[-1]}, times {reference_names(results)[0]}": times_reference(name, references) for name in names
        }
    if any("ratio-1" in (row["published"] or {}) for row in results["rows"]):
        cells[f"paper, {results['published']['dataset']}: times SASRec on ids, groups 1 to 5"] = paper_ratios
    return cells


def _slices(results: dict[str, Any]) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for kind in ("activity", "tags"):
        for name in dict.fromkeys(name for row in results["rows"] for name in row[kind]):
            cells[name] = slice_cell(kind, name)
    return cells


def _beyond(results: dict[str, Any]) -> dict[str, Cell]:
    rows = [row["beyond"] for row in results["rows"] if row["beyond"]]
    return {
        name: beyond_cell(name) for name in dict.fromkeys(name for row in rows for name in row) if name != "features"
    }


def _cost(results: dict[str, Any]) -> dict[str, Cell]:
    cells: dict[str, Cell] = {
        "parameters": lambda row: millions(row["cost"]["parameters"]),
        "trained": lambda row: millions(row["cost"]["trainable_parameters"]),
        "G multiply-adds an item": lambda row: billions(row["cost"]["multiply_adds_per_item"]),
        "s an epoch": lambda row: duration(row["cost"]["seconds_per_epoch"]) if row["cost"]["epochs"] else "-",
        "epochs (best)": epoch_count,
        "s of training": lambda row: duration(row["cost"]["seconds"]),
        "peak memory, MB": lambda row: f"{row['cost']['peak_memory_bytes'] / 1e6:,.0f}",
        "Wh, estimated": lambda row: f"{row['cost']['watt_hours']:.2g}",
        "valid HR@10": lambda row: percent(row["valid"]["HR@10"]),
        "run": lambda row: f"{row['config']}, {row['config_hash']}, seed {row['seeds'][0]}, {row['commit'][:7]}",
    }
    if any("#Param." in (row["published"] or {}) for row in results["rows"]):
        cells["paper: parameters, FLOPs, time an epoch, best epoch, memory, GPUs"] = paper_costs
    return cells


def _counted(results: dict[str, Any]) -> Sheet:
    """The paper's table of costs: the values counted from our networks beside the printed ones."""
    rows = []
    for row in results["counted"]:
        printed, adds = results["printed_costs"][row["row"]], row["multiply_adds"]
        ours = f"{adds / 1e9:,.0f} G" if adds else "-"
        rows.append([row["row"], f"{row['parameters'] / 1e6:.2f} M", printed["#Param."], ours, printed["FLOPs"]])
    return Sheet(
        title="The paper's table of costs, counted from the networks of this package",
        columns=["trained parameters, counted", "printed", "multiply-adds, counted", "FLOPs, printed"],
        groups={"SASRec over": rows},
        notes=[
            "Parameters: the last stages and the classifier of 400 classes, the projection to 512, SASRec, and an id "
            "table of 19,670 rows that the original code builds beside every encoder and never uses.",
            "Multiply-adds: one forward pass of the encoder over a batch of one GPU, eleven videos a user; the printed "
            "FLOPs follow this rule (they count norms and activations, too, and no products of attention), but for "
            "R3D-r18. The row MViT-B-16x4 is of the image network MViT-B-16, which the original code takes for it.",
        ],
    )


def notes(results: dict[str, Any]) -> list[str]:
    """The notes needed to read the numbers."""
    lines = ["Full ranking, ties against the model.", *interval_notes(results), *cut_off_notes(results["rows"])]
    if any(row["published"] for row in results["rows"]):
        lines.append(
            f"The paper's numbers: {results['published']['source']}; other data, so only their order compares."
        )
    faults = [row for row in results["rows"] if row["published_fault"]]
    lines += [f"{row['name']}: the paper's row is {row['published_fault']}." for row in faults]
    files = [file for row in results["rows"] for file in row["features"]]
    lines += sorted(
        {f"V: {file['file']}, made by the encoder {file['encoder']}." for file in files if "encoder" in file}
    )
    lines += sorted({f"Codes: {file['file']}, made by {file['codes']}." for file in files if "codes" in file})
    lines += _missing(results["missing"])
    if len(results["protocols"]) > 1:
        lines.append("This table mixes several protocols; only numbers of the same protocol are comparable.")
    if results.get("protocol_name", "paper") != "paper":
        lines += [f"{name}: {described(fields)}" for name, fields in results["protocols"].items()]
    protocols = ", ".join(results["protocols"]) or "-"
    lines.append(f"Protocol {protocols}; data {results['data_hash'][:12]}.")
    return lines


def _missing(missing: dict[str, str]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for name, why in missing.items():
        by_reason.setdefault(why, []).append(name)
    return [
        f"{listed(names)} {'is' if len(names) == 1 else 'are'} missing: {why}" + "." * (not why.endswith("."))
        for why, names in by_reason.items()
    ]


def _beyond_notes(results: dict[str, Any]) -> list[str]:
    files = sorted(
        {row["beyond"]["features"] for row in results["rows"] if row["beyond"] and row["beyond"]["features"]}
    )
    of_content = [f"Diversity is by the cosine of the vectors in {', '.join(files)}."] if files else []
    return [
        "Coverage: fraction of all items that appear in any list. Novelty: mean -log2 of the fraction of users who "
        "have an item. Diversity: mean distance of two items of a list. Popularity: mean training count of "
        "recommended items. Gini: 0 if all items are recommended equally often, 1 if only one is.",
        *of_content,
    ]


def _cost_notes(results: dict[str, Any]) -> list[str]:
    watts = results["watts"]
    devices = sorted({row["cost"]["device"] for row in results["rows"]})
    assumed = f"{watts['a thread']:g} W a processor thread or {watts['a GPU']:g} W a GPU"
    return [
        f"Wh: seconds of training times {assumed}, assumed.",
        f"Trained on: {'; '.join(devices)}." if devices else "Nothing was trained.",
        *cut_off_notes(results["rows"]),
    ]
