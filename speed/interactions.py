"""What reading and preparing the interactions of a release costs, csv and tsv, printed as JSON.

    python speed/interactions.py [--smoke] [--repeats 5]

Each repeat is a process of its own, start-up included (from modules that an untimed run has compiled):
``microlens data prepare`` on a release without media, beside a plain reader in the way of the original research code,
which goes through the tsv line by line, counts and renumbers items in dictionaries, and leaves nothing on disk.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from measure import (
    MICROLENS_100K,
    SMOKE,
    Line,
    keeping_bytecode,
    long_tailed_sequences,
    print_result,
    side_by_side,
    write_release,
)

WALL_SECONDS = 2.0


def prepare(release: Path, dataset: Path, environment: dict[str, str]) -> None:
    """Run the command as a user would; what it wrote is removed."""
    command = [sys.executable, "-m", "microlens", "data", "prepare", str(release), str(dataset)]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    assert (dataset / "manifest.json").exists()
    shutil.rmtree(dataset)


def read_line_by_line(pairs: Path, minimum: int = 5, maximum: int = 13) -> tuple[dict[str, list[int]], list[int]]:
    """Users' cut and renumbered sequences, and how often each item occurs for training; plain Python."""
    sequences: dict[str, list[str]] = {}
    occurs: dict[str, int] = {}
    with pairs.open() as file:
        for line in file:
            user, text = line.strip().split("\t")
            items = text.split(" ")[-maximum:]
            if len(items) < minimum:
                continue
            sequences[user] = items
            for item in items:
                occurs[item] = occurs.get(item, 0) + 1
    numbers = {item: number for number, item in enumerate(sorted(occurs, key=int), 1)}
    renumbered = {user: [numbers[item] for item in items] for user, items in sequences.items()}
    counts = [0] * (len(numbers) + 1)
    for items in renumbered.values():
        for item in items[:-2]:
            counts[item] += 1
    return renumbered, counts


def main() -> None:
    """Measure both kinds of release and the plain reader."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that the program works")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--read-line-by-line", type=Path, help="only read this tsv in the plain way")
    options = parser.parse_args()
    if options.read_line_by_line:
        read_line_by_line(options.read_line_by_line)
        return
    shape, repeats = (SMOKE, 1) if options.smoke else (MICROLENS_100K, options.repeats)
    sequences = long_tailed_sequences(shape)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = keeping_bytecode(folder / "bytecode")
        ways: dict[str, Callable[[], object]] = {
            f"microlens data prepare, {kind}": partial(
                prepare, write_release(folder / kind, sequences, kind), folder / "dataset", environment
            )
            for kind in ("csv", "tsv")
        }
        plain = [sys.executable, __file__, "--read-line-by-line", str(folder / "tsv" / "bench_pairs.tsv")]
        ways["line by line, tsv"] = lambda: subprocess.run(plain, check=True, env=environment)
        if repeats > 1:
            side_by_side(ways, repeats=1)  # untimed: the first run compiles modules and fills caches
        costs = side_by_side(ways, repeats, who=resource.RUSAGE_CHILDREN)
    lines = [
        Line(
            what=f"microlens data prepare of {shape.interactions:,} interactions, {kind}, whole command",
            measured=costs[f"microlens data prepare, {kind}"].wall_seconds, unit="s", bound="at most",
            reach=WALL_SECONDS,
        )
        for kind in ("csv", "tsv")
    ]  # fmt: skip
    print_result("interactions", options, [], {"processes": costs}, lines)


if __name__ == "__main__":
    main()
