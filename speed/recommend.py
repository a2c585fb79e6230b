"""What a list of recommendations costs: a command from its start, and a user of a run that is loaded; printed as JSON.

    python speed/recommend.py [--smoke] [--repeats 5]

SASRec on item ids, D = 64, is trained for an epoch on interactions in the shape of MicroLens-100K. Each command is a
process of its own with one thread, in turn with a process that does nothing but import PyTorch, which no command that
ranks can do without. CPU seconds, medians.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from interactions_scale import measured
from measure import (
    MICROLENS_100K,
    SMOKE,
    Line,
    cpu_seconds,
    keeping_bytecode,
    long_tailed_sequences,
    print_result,
    write_release,
)

USERS = 300


def trained(folder: Path, *, smoke: bool) -> Path:
    """The folder of a run of one epoch."""
    from microlens.config.run_config import RunConfig
    from microlens.data.prepare import prepare
    from microlens.runs.train import train

    sequences = long_tailed_sequences(SMOKE if smoke else MICROLENS_100K)
    prepare(write_release(folder / "release", sequences, "csv"), folder / "dataset")
    settings = {"epochs": 1, "batch_size": 1024, "device": "cpu"}
    model = {"name": "sasrec", "dim": 64}
    sections = {"model": model, "encoder": {"name": "id"}, "train": settings}
    config = {"dataset": folder / "dataset", "output": folder / "run", **sections}
    train(RunConfig.model_validate(config))
    return folder / "run"


def commands(run: Path) -> dict[str, list[str]]:
    """What is started, by what it is called."""
    microlens = [sys.executable, "-m", "microlens"]
    return {
        "import torch": [sys.executable, "-c", "import torch"],
        "recommend": [*microlens, "recommend", str(run), "--user", "1"],
        "list models": [*microlens, "list", "models"],
    }


def of_processes(run: Path, folder: Path, repeats: int) -> dict[str, float]:
    """The median CPU seconds of each command, after one that is not counted."""
    environment = {**keeping_bytecode(folder), "OMP_NUM_THREADS": "1"}
    each: dict[str, list[float]] = {name: [] for name in commands(run)}
    for _ in range(1 + repeats):
        for name, command in commands(run).items():
            each[name].append(measured(command, environment)["cpu_seconds"])
    return {name: round(statistics.median(seconds[1:]), 2) for name, seconds in each.items()}


def of_a_user(run: Path) -> float:
    """The median CPU milliseconds of the list of a user, one at a time, of a run that is loaded."""
    import torch

    from microlens import load

    torch.set_num_threads(1)
    loaded = load(run)

    def each() -> Iterator[float]:
        for user in range(1, 1 + USERS):
            begin = cpu_seconds()
            loaded.recommend(users=[str(user)])
            yield 1000 * (cpu_seconds() - begin)

    return round(statistics.median(list(each())[1:]), 3)


def main() -> None:
    """Measure, and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that the program works")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)  # no file of the folder that this was started in is read
        folder = Path(name)
        run = trained(folder, smoke=options.smoke)
        processes = of_processes(run, folder / "bytecode", 1 if options.smoke else options.repeats)
        user = of_a_user(run)
    lines = [
        Line(what="recommend, the process", measured=processes["recommend"], unit="CPU s", bound="at most", reach=1.5),
        Line(what="list models", measured=processes["list models"], unit="CPU s", bound="at most", reach=0.5),
        Line(what="the list of a user", measured=user, unit="CPU ms", bound="at most", reach=2.5),
    ]
    results = {"cpu_seconds_of_a_process": processes, "cpu_milliseconds_of_a_user": user}
    print_result("recommend", options, [1], results, lines)


if __name__ == "__main__":
    main()
