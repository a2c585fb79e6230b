"""What preparing interactions that do not fit in memory costs, printed as JSON.

    python speed/interactions_scale.py [--smoke] [--users 2780000] [--mean-length 7.2] [--memory 1GB] [--no-peers]

A release of interactions is made in the shape of MicroLens (20 million by default), in order of time. Each way is a
process of its own, start-up included: ``microlens data prepare``; and, in memory, polars and pandas, which read the
csv, drop repeated pairs of user and item, sort by user and time, number users and items, and write arrays. Peak memory
is what the operating system reports of the process.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import Line, keeping_bytecode, print_result

ITEMS = 91_402
SECONDS, GIGABYTES = 20.0, 2.5
SMOKE_USERS = 3000


def with_polars(pairs: Path, out: Path) -> None:
    """Read, sort, number and write with polars, in memory."""
    import polars as pl

    frame = pl.read_csv(pairs).sort("user", "timestamp", maintain_order=True)
    frame = frame.unique(["user", "item"], keep="first", maintain_order=True)
    lengths = frame["user"].rle().struct.field("len").to_numpy()
    np.save(out / "offsets.npy", np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
    np.save(out / "items.npy", frame["item"].rank("dense").cast(pl.Int32).to_numpy())
    np.save(out / "times.npy", frame["timestamp"].to_numpy())
    frame.write_parquet(out / "interactions.parquet")


def with_pandas(pairs: Path, out: Path) -> None:
    """Read, sort, number and write with pandas, in memory."""
    import pandas as pd

    frame = pd.read_csv(pairs).sort_values(["user", "timestamp"], kind="stable")
    frame = frame.drop_duplicates(["user", "item"])
    users, items = frame["user"].to_numpy(), frame["item"].to_numpy()
    np.save(out / "offsets.npy", np.append(np.flatnonzero(np.diff(users, prepend=-1)), len(users)))
    np.save(out / "items.npy", np.unique(items, return_inverse=True)[1].astype(np.int32) + 1)
    np.save(out / "times.npy", frame["timestamp"].to_numpy())


PEERS: dict[str, Callable[[Path, Path], None]] = {"polars": with_polars, "pandas": with_pandas}


def measured(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Seconds and peak memory of a process.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {
        "wall_seconds": round(time.perf_counter() - begin, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_gigabytes": round(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9, 3),
    }


def measure_all(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make the release, and measure all ways one after the other."""
    environment = keeping_bytecode(folder / "bytecode")
    release, dataset = folder / "release", folder / "dataset"
    command = [sys.executable, "-m", "microlens", "data"]
    size = ["--users", str(options.users), "--items", str(ITEMS), "--mean-length", str(options.mean_length)]
    results: dict[str, Any] = {
        "data synth": measured([*command, "synth", str(release), "--interactions-only", *size], environment)
    }
    pairs = release / "synthetic_pairs.csv"
    results["csv_gigabytes"] = round(pairs.stat().st_size / 1e9, 3)
    prepare = [*command, "prepare", str(release), str(dataset), "--memory", options.memory]
    results["data prepare"] = measured(prepare, environment)
    results["interactions"] = int(np.load(dataset / "interactions" / "items.npy", mmap_mode="r").shape[0])
    shutil.rmtree(dataset)
    for name in () if options.no_peers else PEERS:
        (folder / name).mkdir()
        peer = [sys.executable, __file__, "--peer", name, "--pairs", str(pairs), "--out", str(folder / name)]
        results[f"{name}, in memory"] = measured(peer, environment)
        shutil.rmtree(folder / name)
    return results


def lines_of(results: dict[str, Any]) -> list[Line]:
    """What is to be reached: time in proportion to the interactions, 1.5 times the memory for more than 30 million."""
    count, cost = results["interactions"], results["data prepare"]
    what = f"data prepare of {count:,} interactions, csv, whole command"
    seconds, gigabytes = SECONDS * max(1, count / 2e7), GIGABYTES * (1.5 if count > 3e7 else 1)
    return [
        Line(what=what, measured=cost["wall_seconds"], unit="s", bound="at most", reach=round(seconds)),
        Line(what=what, measured=cost["cpu_seconds"], unit="CPU s", bound="at most", reach=round(2 * seconds)),
        Line(what=what, measured=cost["peak_gigabytes"], unit="GB", bound="at most", reach=gigabytes),
    ]


def main() -> None:
    """Measure all ways, or be the process of a peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that the program works")
    parser.add_argument("--users", type=int, default=2_780_000)
    parser.add_argument("--mean-length", type=float, default=7.2)
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--no-peers", action="store_true", help="measure data prepare only")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    for name in ("--pairs", "--out", "--folder"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS if name != "--folder" else "where to write")
    options = parser.parse_args()
    if options.peer:
        PEERS[options.peer](options.pairs, options.out)
        return
    if options.smoke:
        options.users = SMOKE_USERS
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        results = measure_all(options, Path(name))
    options.folder = None
    print_result("interactions_scale", options, [], results, lines_of(results))


if __name__ == "__main__":
    main()
