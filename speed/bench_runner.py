"""What the runner of tables costs, printed as JSON.

    python speed/bench_runner.py [--smoke] [--repeats 3]

First, what a row costs on top of its own work: rows of a model that needs no training, through the runner with a
process each, beside the same rows one after the other in this process. Then ``microlens bench all --smoke --jobs 2``
from an empty folder: the release is made, prepared and encoded, every row of every table trained and ranked. Frozen
trunks that it ran over the catalogue are counted beside the runs that read them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import MICROLENS_100K, SMOKE, Line, Shape, made_run, print_result, sasrec, side_by_side

from microlens.bench import Bench, Choices, Runner, read_bench
from microlens.runs.list_metrics import summarise
from microlens.runs.train import train

ROWS = 5
OVERHEAD_SECONDS, ALL_SECONDS = 2.0, 20 * 60.0
REPOSITORY = Path(__file__).resolve().parent.parent


def rows_of(folder: Path, output: Path) -> Bench:
    """A table of one model, which counts and trains nothing, with :data:`ROWS` seeds."""
    configs = folder / "configs"
    configs.mkdir(exist_ok=True)
    (configs / "popularity.toml").write_text('dataset = "d"\noutput = "o"\n[model]\nname = "popularity"\n')
    choices = Choices(configs=configs, output=output, only=("Popularity",), seeds=ROWS)
    return read_bench("baseline", folder / "dataset", choices)


def by_the_runner(bench: Bench) -> None:
    """Every row in a process of its own; the server that they are copies of is started as well."""
    assert Runner(bench, jobs=1, on_row=lambda name, event: None).run() == {}


def one_after_another(bench: Bench) -> None:
    """The work of the rows alone."""
    for job in bench.jobs():
        train(job.config)
        summarise(job.folder)


def overhead(folder: Path, shape: Shape, repeats: int) -> dict[str, Any]:
    """Seconds a row through the runner and in this process."""
    made_run(folder, shape, **sasrec(16, 32))  # prepares the dataset
    fresh = (folder / f"runs-{number}" for number in range(10 * (repeats + 1)))
    costs = side_by_side(
        {
            "microlens bench": lambda: by_the_runner(rows_of(folder, next(fresh))),
            "one after another": lambda: one_after_another(rows_of(folder, next(fresh))),
        },
        repeats,
    )
    seconds = {name: round(cost.wall_seconds / ROWS, 4) for name, cost in costs.items()}
    apart = seconds["microlens bench"] - seconds["one after another"]
    return {"rows": ROWS, "wall_seconds_a_row": seconds, "overhead_seconds_a_row": round(apart, 4)}


def every_table(folder: Path) -> dict[str, Any]:
    """The whole of ``microlens bench all --smoke --jobs 2`` in an empty folder."""
    command = ["bench", "all", "--smoke", "--jobs", "2", "--configs", str(REPOSITORY / "configs" / "demo")]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "microlens", *command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    output = folder / "runs" / "bench" / "smoke"
    tables = [json.loads(path.read_text()) for path in sorted(output.glob("*.json"))]
    return {
        "wall_seconds": round(time.monotonic() - started, 1),
        "tables": len(tables),
        "rows": sum(len(table["rows"]) for table in tables),
        "runs": len(list(output.glob("*/report.json"))),
        "frozen_trunks_run_once": len(list((folder / "datasets" / "smoke" / "cache").glob("*"))),
    }


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data and no tables, to see that the program works")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    shape, repeats = (SMOKE, 1) if options.smoke else (MICROLENS_100K, options.repeats)
    with tempfile.TemporaryDirectory() as name:
        results = {"overhead": overhead(Path(name), shape, repeats)}
    lines = [
        Line(
            what="runner of tables, on top of a row's own work", unit="s", bound="at most", reach=OVERHEAD_SECONDS,
            measured=results["overhead"]["overhead_seconds_a_row"],
        )
    ]  # fmt: skip
    if not options.smoke:
        with tempfile.TemporaryDirectory() as name:
            results["every table, smoke"] = every_table(Path(name))
        lines.append(
            Line(
                what="microlens bench all --smoke --jobs 2, from nothing", unit="s", bound="at most",
                reach=ALL_SECONDS, measured=results["every table, smoke"]["wall_seconds"],
            )
        )  # fmt: skip
    print_result("bench_runner", options, [], results, lines)


if __name__ == "__main__":
    main()
