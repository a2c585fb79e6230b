"""Fit default models on public data sets, and check them against Popularity, published figures and the last run.

    python -m gate DATA [--work FOLDER] [--only NAME] [--small] [--record]

``DATA`` is a folder with a folder for each data set, such as ``DATA/ml-100k``; missing data sets are named and skipped.
Finished rows are kept in ``--work`` and not fitted again. Prints a table; the exit status is 1 if a row fails
a check. ``--record`` stores the metrics as those of the last run.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gate.checks import METRIC, faults_of
from gate.declared import GateData, Part, read_declared
from gate.fitting import dataset_of, fitted

RECORDED = Path(__file__).resolve().parent.parent / "results" / "gate.json"
SHOWN = (METRIC, "Recall@10", "HR@10")


def main() -> int:
    """Run the gate; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="A folder with a folder for each data set.")
    parser.add_argument("--work", type=Path, help="Folder of prepared data and runs; a temporary one by default.")
    parser.add_argument("--only", action="append", help="Name of a data set; repeatable.")
    parser.add_argument("--small", action="store_true", help="Only the rows that take seconds.")
    parser.add_argument("--record", action="store_true", help=f"Write the metrics to {RECORDED.name}.")
    arguments = parser.parse_args()
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        for data in read_declared():
            if arguments.only and data.name not in arguments.only:
                continue
            source = next((arguments.data / name for name in data.folders if (arguments.data / name).exists()), None)
            if source is None:
                print(
                    f"{data.name} is skipped: there is no {arguments.data / data.folders[0]}; get it from {data.home}."
                )
                continue
            faults += _run(data, source, arguments.work or Path(temporary), recorded, small=arguments.small)
    if arguments.record:
        RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")
    for fault in faults:
        print(f"FAILED: {fault}")
    return 1 if faults else 0


def _run(data: GateData, source: Path, work: Path, recorded: dict[str, Any], *, small: bool) -> list[str]:
    """Fit the rows of a data set, print their tables, update ``recorded``, and return the failed checks."""
    dataset = dataset_of(data, source, work / data.name)
    before = recorded.setdefault(data.name, {})
    faults: list[str] = []
    for part in data.parts:
        faults += _run_part(part, data.name, dataset, work, before.setdefault(part.name, {}), small=small)
    return faults


def _run_part(
    part: Part, data_name: str, dataset: Path, work: Path, before: dict[str, Any], *, small: bool
) -> list[str]:
    table = Table(title=f"{data_name}, {part.name}")
    for column in ("row", *SHOWN, "published", "last run", "seconds", ""):
        table.add_column(column)
    faults: list[str] = []
    popularity: dict[str, float] = {}
    for row in part.rows:
        if small and not row.small and row.model != "popularity":
            continue
        result = fitted(row, part.protocol, dataset, work)
        found = result["metrics"]
        popularity = popularity or found
        last = before.get(row.name)
        missed = faults_of(
            row, found, popularity, last and last["metrics"], deterministic=not result["depends_on_seed"]
        )
        faults += [f"{data_name}, {part.name}, {row.name}: {fault}." for fault in missed]
        published = row.published.metrics.get(METRIC) if row.published else None
        table.add_row(
            row.name,
            *(f"{found[metric]:.4f}" if metric in found else "" for metric in SHOWN),
            f"{published:.4f}" if published else "",
            f"{last['metrics'][METRIC]:.4f}" if last else "",
            f"{result['seconds']:.1f}",
            "missed" if missed else "ok",
        )
        before[row.name] = result
    Console(width=120).print(table)
    return faults


if __name__ == "__main__":
    sys.exit(main())
