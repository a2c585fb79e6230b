"""Run every benchmark, keep its JSON in speed/results, and print the figures that have a line to reach.

At the end it says which stored results, also of other programs, are older than the code they measure.

python speed/run_all.py [--smoke] [--results FOLDER]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import freshness
from freshness import ages_of
from measure import STORED, keeping_bytecode, uncommitted
from rich.console import Console
from rich.table import Table

from microlens.files.writing import write_text

HERE = Path(__file__).resolve().parent
PROGRAMS = ("training", "evaluation", "interactions", "memory", "decode", "collaborative", "bench_runner", "verify")


def run(name: str, smoke: bool, environment: dict[str, str]) -> dict[str, Any]:
    """The JSON that a program prints; its complaints go to standard error.

    Raises:
        subprocess.CalledProcessError: the program failed.
    """
    command = [sys.executable, str(HERE / f"{name}.py"), *(["--smoke"] if smoke else [])]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    document: dict[str, Any] = json.loads(output)
    return document


def table_of(documents: list[dict[str, Any]]) -> Table:
    """Every measured figure against the line it is to reach."""
    table = Table("figure", "measured", "to reach", "")
    for document in documents:
        for line in document["lines"]:
            table.add_row(
                line["what"], f"{line['measured']:,g} {line['unit']}",
                f"{line['bound']} {line['reach']:,g} {line['unit']}", "reached" if line["reached"] else "NOT reached",
            )  # fmt: skip
    return table


def main() -> None:
    """Run all programs one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data; the results need a folder of their own")
    parser.add_argument("--results", type=Path, default=STORED)
    options = parser.parse_args()
    stores = options.results.resolve() == STORED
    if options.smoke and stores:
        parser.error("--smoke would overwrite the full results; name another folder with --results")
    if stores and (changes := uncommitted()):
        parser.error(
            f"results are stored for a commit only, and these changes are not committed:\n{changes}\n"
            "Commit them, or name another folder with --results."
        )
    options.results.mkdir(parents=True, exist_ok=True)
    documents = []
    with tempfile.TemporaryDirectory() as bytecode:
        for name in PROGRAMS:
            print(f"{name} ...", file=sys.stderr)
            documents.append(run(name, options.smoke, keeping_bytecode(Path(bytecode))))
            write_text(options.results / f"{name}.json", json.dumps(documents[-1], indent=1) + "\n")
    console = Console(width=150)
    console.print(table_of(documents))
    ages = ages_of(STORED) if stores else {}
    if not all(age.is_current for age in ages.values()):
        console.print(freshness.table_of(ages))
        console.print("Results marked OLD were measured with other code than the present; run their programs again.")


if __name__ == "__main__":
    main()
