"""Run every benchmark, keep its JSON in speed/results, and print the figures that have a line to reach.

python speed/run_all.py [--smoke] [--results FOLDER]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import keeping_bytecode
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
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    if options.smoke and options.results == HERE / "results":
        parser.error("--smoke would overwrite the full results; name another folder with --results")
    options.results.mkdir(parents=True, exist_ok=True)
    documents = []
    with tempfile.TemporaryDirectory() as bytecode:
        for name in PROGRAMS:
            print(f"{name} ...", file=sys.stderr)
            documents.append(run(name, options.smoke, keeping_bytecode(Path(bytecode))))
            write_text(options.results / f"{name}.json", json.dumps(documents[-1], indent=1) + "\n")
    Console(width=150).print(table_of(documents))


if __name__ == "__main__":
    main()
