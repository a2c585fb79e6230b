"""From finished runs to the numbers of a table, as JSON holds them."""

import json
from pathlib import Path
from typing import Any

from microlens.bench.rows import Bench, Row
from microlens.errors import InputError
from microlens.metrics import paired_differences
from microlens.report import Report, read_ranks

SHOWN_COHORTS = ("all", "warm", "cold")
SHOWN_COST = (
    "parameters",
    "trainable_parameters",
    "seconds_per_epoch",
    "seconds",
    "epochs",
    "best_epoch",
    "peak_memory_bytes",
    "device",
)


def collect(bench: Bench, failed: dict[str, str]) -> dict[str, Any]:
    """The contents of a table's JSON: its rows in order, those that are missing and why, and the provenance of each.

    Args:
        bench: the table.
        failed: what :func:`microlens.bench.run_rows` returned.
    """
    missing = dict.fromkeys(bench.without_config, "no configuration") | failed
    reports: dict[str, Report] = {}
    for row in bench.rows:
        if row.name in failed:
            continue
        try:
            report = row.report(bench.data_hash)
        except InputError as error:
            report = None
            missing[row.name] = str(error)
        if report is not None:
            reports[row.name] = report
        else:
            missing.setdefault(row.name, "not trained yet")
    done = [row for row in bench.rows if row.name in reports]
    reference = next((row for row in done if row.config_path.stem == bench.against), None)
    return {
        "table": bench.name,
        "title": bench.title,
        "dataset": bench.dataset.resolve().name,
        "data_hash": bench.data_hash,
        "protocol": reports[done[0].name].protocol if done else {},
        "num_targets": _shown(reports[done[0].name].num_targets["test"]) if done else {},
        "against": reference.name if reference else None,
        "published": {name: bench.published[name] for name in ("dataset", "source")},
        "rows": [_row_result(row, reports[row.name], reference, bench.published) for row in done],
        "missing": missing,
    }


def _row_result(row: Row, report: Report, reference: Row | None, published: dict[str, Any]) -> dict[str, Any]:
    differences = None
    if reference is not None and reference is not row:
        ours, theirs = (read_ranks(of.folder)["test"] for of in (row, reference))
        differences = paired_differences(ours, theirs)
    return {
        "group": row.group,
        "name": row.name,
        "config": row.config_path.stem,
        "config_hash": row.config.hash,
        "seed": report.provenance["seed"],
        "commit": report.provenance["commit"],
        "features": feature_files(row),
        "test": _shown(report.metrics["test"]),
        "intervals": _shown(report.intervals["test"]),
        "valid": report.metrics["valid"]["all"],
        "difference": differences,
        "cost": {name: report.cost[name] for name in SHOWN_COST},
        "published": published["rows"].get(row.paper),
        "published_fault": published["faults"].get(row.paper),
    }


def _shown(by_cohort: dict[str, Any]) -> dict[str, Any]:
    return {cohort: by_cohort[cohort] for cohort in SHOWN_COHORTS}


def feature_files(row: Row) -> list[dict[str, str]]:
    """The frozen features that a row reads, and the encoder that made them where ``NAME.json`` beside them says so."""
    found: list[dict[str, str]] = []
    tables = [row.config.model.options(), row.config.encoder.model_dump() if row.config.encoder else {}]
    while tables:
        for value in tables.pop().values():
            values = value if isinstance(value, list) else [value]
            tables += [entry for entry in values if isinstance(entry, dict)]
            paths = [Path(entry) for entry in values if isinstance(entry, str) and entry.endswith(".npy")]
            found += [{"file": path.name, "encoder": _maker(path)} for path in paths]
    return found


def _maker(path: Path) -> str:
    provenance = path.with_suffix(".json")
    if not provenance.is_file():
        return "unknown"
    return str(json.loads(provenance.read_text(encoding="utf-8")).get("encoder", "unknown"))
