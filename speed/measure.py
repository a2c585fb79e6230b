"""What every benchmark shares: data of MicroLens-100K's shape, costs measured side by side, and the JSON they print."""

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from microlens.runs.assembly import Experiment

Int64 = npt.NDArray[np.int64]

REPOSITORY = Path(__file__).resolve().parents[1]
STORED = REPOSITORY / "speed" / "results"
ALLOCATOR = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # variables that change how memory is allocated
PACKAGES = ("microlens", "numpy", "polars", "av", "simplejpeg", "lmdb", "torch")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How many of everything a made data set has."""

    users: int
    items: int
    interactions: int


MICROLENS_100K = Shape(users=100_000, items=19_738, interactions=719_405)
SMOKE = Shape(users=300, items=150, interactions=2_158)


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Users' items, oldest first: ``items`` (E,) from 1, of user u ``items[offsets[u]:offsets[u + 1]]``."""

    offsets: Int64
    items: Int64


def long_tailed_sequences(shape: Shape, seed: int = 0) -> Sequences:
    """Sequences of at least 5 distinct items with long-tailed lengths and popularity.

    Both are log-normal, with spreads like those of the published MicroLens interactions; every item occurs.
    """
    rng = np.random.default_rng(seed)
    lengths = 5 + np.floor(rng.lognormal(0.2, 1.2, shape.users)).astype(np.int64).clip(max=shape.items // 4)
    while (missing := shape.interactions - lengths.sum()) != 0:
        able = np.flatnonzero(lengths > 5) if missing < 0 else np.arange(shape.users)
        lengths[rng.choice(able, min(abs(missing), len(able)), replace=False)] += np.sign(missing)
    popularity = rng.lognormal(0.0, 1.0, shape.items)
    popularity /= popularity.sum()
    drawn = rng.choice(shape.items, shape.interactions - shape.items, p=popularity)
    items = rng.permutation(np.concatenate([np.arange(shape.items), drawn]))
    users = np.repeat(np.arange(shape.users), lengths)
    while len(repeats := _repeats(users * shape.items + items)):
        items[repeats] = rng.choice(shape.items, len(repeats), p=popularity)
    return Sequences(offsets=np.concatenate([[0], np.cumsum(lengths)]), items=items + 1)


def _repeats(pairs: Int64) -> Int64:
    _, first = np.unique(pairs, return_index=True)
    repeated = np.ones(len(pairs), bool)
    repeated[first] = False
    return np.flatnonzero(repeated)


def write_release(folder: Path, sequences: Sequences, kind: Literal["csv", "tsv"]) -> Path:
    """Write the sequences as a release without media, in the official layout of ``kind``; returns ``folder``."""
    folder.mkdir(parents=True)
    offsets, items = sequences.offsets, sequences.items
    if kind == "tsv":
        rows = (items[start:end].tolist() for start, end in pairwise(offsets))
        lines = [f"{user}\t{' '.join(map(str, row))}\n" for user, row in enumerate(rows, 1)]
    else:
        users = np.repeat(np.arange(1, len(offsets)), np.diff(offsets))
        times = 1_600_000_000_000 + 60_000 * np.arange(len(items))
        events = np.stack([users, items, times], 1).tolist()
        lines = ["user,item,timestamp\n", *(f"{user},{item},{moment}\n" for user, item, moment in events)]
    (folder / f"bench_pairs.{kind}").write_text("".join(lines))
    return folder


def sasrec(dim: int, batch_size: int, dropout: float = 0.1) -> dict[str, dict[str, Any]]:
    """The sections of a configuration of SASRec."""
    return {"model": {"name": "sasrec", "dim": dim, "dropout": dropout}, "train": {"batch_size": batch_size}}


def made_run(
    folder: Path,
    shape: Shape,
    *,
    model: Mapping[str, Any],
    train: Mapping[str, Any],
    encoder: str | None = "id",
    device: str = "cpu",
    output: Path | None = None,
) -> "Experiment":
    """A fresh recommender, by default on item ids, built from a configuration over a dataset of made interactions.

    The dataset is prepared at the first call and shared by later ones with the same ``folder``.
    """
    from microlens.config.run_config import RunConfig
    from microlens.data.prepare import prepare
    from microlens.media.decoding import Settings
    from microlens.runs.assembly import build_experiment

    dataset = folder / "dataset"
    if not dataset.exists():
        prepare(write_release(folder / "release", long_tailed_sequences(shape), "tsv"), dataset, Settings())
    configuration = {
        "dataset": dataset,
        "output": output or folder / "run",
        "model": dict(model),
        "encoder": encoder and {"name": encoder},
        "train": {**train, "device": device},
    }
    return build_experiment(RunConfig.model_validate(configuration))


def cpu_seconds(who: int = resource.RUSAGE_SELF) -> float:
    """CPU time so far, user and system, of all threads of this process (or of its ended children)."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def peak_bytes() -> int:
    """The most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def keeping_bytecode(folder: Path) -> dict[str, str]:
    """The environment for Python processes that keep compiled modules, as installed programs do.

    Some machines forbid Python to write them; every process would then compile torch anew, for seconds. Where the
    installed packages lie uncompiled, their modules are kept in ``folder``.
    """
    rest = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    installed = find_spec("torch")
    if installed is not None and installed.cached is not None and Path(installed.cached).exists():
        return rest
    return {"PYTHONPYCACHEPREFIX": str(folder), **rest}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Medians over the repeats, and every repeat's CPU seconds."""

    cpu_seconds: float
    wall_seconds: float
    cpu_seconds_each: list[float]

    def over(self, times: float) -> "Cost":
        """The cost of one of ``times`` equal parts."""
        each = [round(seconds / times, 6) for seconds in self.cpu_seconds_each]
        return Cost(
            cpu_seconds=round(self.cpu_seconds / times, 6),
            wall_seconds=round(self.wall_seconds / times, 6),
            cpu_seconds_each=each,
        )


def median_cost(cpu: list[float], wall: list[float]) -> Cost:
    """The cost of something whose repeats took these CPU and wall seconds."""
    return Cost(
        cpu_seconds=round(statistics.median(cpu), 5),
        wall_seconds=round(statistics.median(wall), 5),
        cpu_seconds_each=[round(seconds, 5) for seconds in cpu],
    )


def side_by_side(
    ways: Mapping[str, Callable[[], object]], repeats: int, who: int = resource.RUSAGE_SELF
) -> dict[str, Cost]:
    """The cost of each way, measured in turn (a, b, a, b, ...) so that a busy machine slows all of them alike.

    All ways run in this process: for ways that start a process each, and for stages of ours that are not compared with
    a peer's. What is compared with a peer runs in :func:`contestants.in_turns`.

    ``who`` is whose CPU time counts: this process, or its children where a way waits for a process it starts.
    """
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            gc.collect()
            begin_cpu, begin = cpu_seconds(who), time.perf_counter()
            work()
            wall[name].append(time.perf_counter() - begin)
            cpu[name].append(cpu_seconds(who) - begin_cpu)
    return {name: median_cost(cpu[name], wall[name]) for name in ways}


@dataclass(frozen=True, kw_only=True)
class Line:
    """A figure that has a line to reach: ``bound`` says from which side."""

    what: str
    measured: float
    unit: str
    bound: Literal["at least", "at most"]
    reach: float

    @property
    def reached(self) -> bool:
        """Whether the figure is on the right side."""
        return self.measured >= self.reach if self.bound == "at least" else self.measured <= self.reach


def print_result(
    name: str, arguments: argparse.Namespace, threads: list[int], results: Mapping[str, Any], lines: list[Line]
) -> None:
    """Print the JSON of one benchmark: where and with what it ran, its figures, and the lines they are to reach."""
    document = {
        "name": name,
        "environment": environment(threads),
        "arguments": {key: value for key, value in sorted(vars(arguments).items()) if value is not None},
        "results": results,
        "lines": [{**asdict(line), "measured": round(line.measured, 4), "reached": line.reached} for line in lines],
    }
    json.dump(document, sys.stdout, indent=1, default=_plain)
    sys.stdout.write("\n")


def _plain(value: object) -> object:
    return asdict(value) if isinstance(value, Cost) else str(value)


def environment(threads: list[int]) -> dict[str, Any]:
    """The machine and the versions, without anything that says where the files lie."""
    return {
        "device": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load_average": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "allocator": {name: Path(value).name for name, value in os.environ.items() if name.startswith(ALLOCATOR)},
        "commit": commit(),
    }


def commit() -> str:
    """The commit that is measured, with "+" if the package or the benchmarks have changes that are not committed.

    Without a repository, or if the package that is measured lies elsewhere, it is the package's version.
    """
    package = find_spec("microlens")
    if package is not None and Path(package.origin or "").resolve().is_relative_to(REPOSITORY):
        try:
            return git(REPOSITORY, "rev-parse", "HEAD") + ("+" if uncommitted() else "")
        except (OSError, subprocess.CalledProcessError):
            pass
    return f"v{metadata.version('microlens')}"


def uncommitted() -> str:
    """The changes of the package and the benchmarks that are not committed, as git lists them; results do not count."""
    return git(REPOSITORY, "status", "--porcelain", "--", "src", "speed", ":!speed/results")


def git(repository: Path, *arguments: str) -> str:
    """What a git command prints.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def processor() -> str:
    """The processor's name, as the operating system has it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for row in information.read_text().splitlines():
            if row.startswith("model name"):
                return row.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
