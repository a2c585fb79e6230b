"""What reading and preparing the interactions of a release costs, csv and tsv, printed as JSON.

    python speed/interactions.py [--smoke] [--repeats 5] [--large-users 1390000]

Each repeat is a process of its own, start-up included (from modules that an untimed run has compiled):
``microlens data prepare`` on a release without media, beside a plain reader in the way of the original research code,
which goes through the file line by line, counts and renumbers items in dictionaries, and leaves nothing on disk.

The same is done once with ten million interactions in order of time, whose ids are integers, and text. Peak memory is
what the operating system reports of a process.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from interactions_scale import measured
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
LARGE_ITEMS, LARGE_CPU_SECONDS, LARGE_GIGABYTES = 91_402, 12.0, 0.8


def prepare(release: Path, dataset: Path, environment: dict[str, str]) -> None:
    """Run the command as a user would; what it wrote is removed."""
    command = [sys.executable, "-m", "microlens", "data", "prepare", str(release), str(dataset)]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    assert (dataset / "manifest.json").exists()
    shutil.rmtree(dataset)


def histories_of(pairs: Path) -> Iterator[tuple[str, list[str]]]:
    """Every user and the user's items, oldest first, of a tsv of sequences or a csv of events."""
    with pairs.open() as file:
        if pairs.suffix == ".tsv":
            for line in file:
                user, text = line.strip().split("\t")
                yield user, text.split(" ")
            return
        events: dict[str, list[tuple[int, str]]] = {}
        next(file)
        for line in file:
            user, item, time = line.strip().split(",")
            events.setdefault(user, []).append((int(time), item))
    for user, of_user in events.items():
        of_user.sort(key=lambda event: event[0])
        yield user, list(dict.fromkeys(item for _, item in of_user))


def read_line_by_line(pairs: Path, minimum: int = 5, maximum: int = 13) -> tuple[dict[str, list[int]], list[int]]:
    """Users' cut and renumbered sequences, and how often each item occurs for training; plain Python."""
    sequences: dict[str, list[str]] = {}
    occurs: dict[str, int] = {}
    for user, history in histories_of(pairs):
        items = history[-maximum:]
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


def write_large(folder: Path, users: int) -> dict[str, Path]:
    """Releases of made interactions, in order of time, with ids that are integers, and text."""
    import polars as pl

    from microlens.release.synthetic_interactions import write_interactions_only

    release, named = folder / "integer ids", folder / "text ids"
    write_interactions_only(release, users=users, items=LARGE_ITEMS)
    named.mkdir()
    columns = (
        ("user_" + pl.col("user").cast(pl.String)).alias("user"),
        ("v" + pl.col("item").cast(pl.String)).alias("item"),
    )
    table = pl.scan_csv(release / "synthetic_pairs.csv").with_columns(columns)
    table.sink_csv(named / "synthetic_pairs.csv")
    return {path.name: path for path in (release, named)}


def measure_large(folder: Path, users: int, environment: dict[str, str]) -> dict[str, Any]:
    """What preparing and reading the large releases cost, each in a process of its own."""
    results: dict[str, Any] = {}
    releases = write_large(folder, users)
    for kind, release in releases.items():
        dataset = folder / "dataset"
        prepare_it = [sys.executable, "-m", "microlens", "data", "prepare", str(release), str(dataset)]
        results[f"microlens data prepare, {kind}"] = measured(prepare_it, environment)
        results["interactions"] = len(np.load(dataset / "interactions" / "items.npy", mmap_mode="r"))
        shutil.rmtree(dataset)
    plain = [sys.executable, __file__, "--read-line-by-line", str(releases["integer ids"] / "synthetic_pairs.csv")]
    results["line by line, integer ids"] = measured(plain, environment)
    return results


def main() -> None:
    """Measure all kinds of release and the plain reader."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that the program works")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--large-users", type=int, default=1_390_000, help="number of users of ten million interactions"
    )
    parser.add_argument("--read-line-by-line", type=Path, help="only read this file in the plain way")
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
        large = measure_large(folder / "large", SMOKE.users if options.smoke else options.large_users, environment)
    lines = [
        Line(
            what=f"microlens data prepare of {shape.interactions:,} interactions, {kind}, whole command",
            measured=costs[f"microlens data prepare, {kind}"].wall_seconds, unit="s", bound="at most",
            reach=WALL_SECONDS,
        )
        for kind in ("csv", "tsv")
    ]  # fmt: skip
    seconds = {name: costs[name].cpu_seconds for name in ("microlens data prepare, tsv", "line by line, tsv")}
    lines.append(
        Line(
            what="CPU time of microlens data prepare, tsv, over that of the plain reader",
            measured=seconds["microlens data prepare, tsv"] / seconds["line by line, tsv"],
            unit="times", bound="at most", reach=1.0,
        )
    )  # fmt: skip
    for kind in ("integer ids", "text ids"):
        cost = large[f"microlens data prepare, {kind}"]
        what = f"microlens data prepare of {large['interactions']:,} interactions, csv, {kind}, whole command"
        for figure, unit, reach in (
            ("cpu_seconds", "CPU s", LARGE_CPU_SECONDS),
            ("peak_gigabytes", "GB", LARGE_GIGABYTES),
        ):
            lines.append(Line(what=what, measured=cost[figure], unit=unit, bound="at most", reach=reach))
    print_result("interactions", options, [], {"processes": costs, "large": large}, lines)


if __name__ == "__main__":
    main()
