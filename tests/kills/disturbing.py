"""Running a command, killing it, and taking its disk away."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.kills.jobs import CANARY, Job

SHARES_LEFT = (0.1, 0.5, 0.9)  # of the space that a command needs


@dataclass
class Undisturbed:
    """What came of a command that nothing happened to: its result, its seconds, its files, the bytes that it wrote."""

    seconds: float
    result: Any
    names: set[str]
    written: int


@dataclass
class Outcome:
    """How often a command was disturbed, when, and what was wrong afterwards."""

    disturbed: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def start(job: Job, folder: Path) -> "subprocess.Popen[str]":
    """Start the command in a group of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    source = Path(__file__).resolve().parents[2] / "src"
    environment["PYTHONPATH"] = str(source)
    return subprocess.Popen(
        [sys.executable, "-m", "microlens", *job.arguments], cwd=folder, env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(job: Job, folder: Path) -> str:
    """Run the command to its end; what it complained of, or nothing if it ended well."""
    process = start(job, folder)
    _, said = process.communicate()
    return f"exit status {process.returncode}: {said[-1000:].strip()}" if process.returncode else ""


def undisturbed(job: Job, world: Path, folder: Path) -> Undisturbed:
    """Run the command in a copy of the world."""
    shutil.copytree(world, folder)
    before, started = size_of(folder), time.monotonic()
    if said := finish(job, folder):
        raise RuntimeError(f"undisturbed, {job.arguments} ends with {said}")
    seconds = time.monotonic() - started
    return Undisturbed(seconds, job.result(folder), names_of(job, folder), size_of(folder) - before)


def kill(job: Job, world: Path, folder: Path, right: Undisturbed, kills: int, random: np.random.Generator) -> Outcome:
    """Kill the command at ``kills`` moments, each of them followed by running it again."""
    outcome = Outcome()
    while len(outcome.disturbed) < kills:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(world, folder)
        before = others(job, folder)
        ended = False
        while len(outcome.disturbed) < kills and not ended:
            process = start(job, folder)
            moment = float(random.uniform(0.05, 1)) * right.seconds
            try:
                process.communicate(timeout=moment)
                ended = True  # what was there already made it faster than ever
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                outcome.disturbed.append(f"killed after {moment:.2f} s")
        check(job, folder, before, right, outcome)
    return outcome


def fill(job: Job, world: Path, folder: Path, right: Undisturbed) -> Outcome:
    """Run the command where the disk gets full in the middle, and again when there is space."""
    outcome = Outcome()
    for share in SHARES_LEFT:
        with small_disk(folder, size_of(world) + 4 * right.written + 2**26) as disk:
            home = disk / "home"
            shutil.copytree(world, home)
            before = others(job, home)
            free = shutil.disk_usage(disk).free - int(share * right.written)
            with (disk / "filler").open("wb") as filler:
                filler.write(b"\0" * max(0, free))
            said = finish(job, home)
            outcome.disturbed.append(f"full at {share:.0%}: {said or 'it ended well'}")
            if said and (not said.startswith("exit status 2: microlens: ") or "\n" in said):
                outcome.faults.append(f"full at {share:.0%}: {said}")
            (disk / "filler").unlink()
            check(job, home, before, right, outcome)
    return outcome


def check(job: Job, folder: Path, before: dict[str, str], right: Undisturbed, outcome: Outcome) -> None:
    """Run the command to its end, and compare."""
    if said := finish(job, folder):
        outcome.faults.append(f"after {outcome.disturbed[-1]}: {said}")
        return
    outcome.faults += differences("result", right.result, job.result(folder))
    if others(job, folder) != before:
        outcome.faults.append("something else was touched")
    if (left := names_of(job, folder)) != right.names:
        outcome.faults.append(f"other files are left: {sorted(left ^ right.names)[:10]}")


def differences(name: str, right: Any, found: Any) -> list[str]:
    """Where two results differ, in words; at most five places."""
    if isinstance(right, dict) and isinstance(found, dict):
        keys = [*right, *(key for key in found if key not in right)]
        return [told for key in keys for told in differences(f"{name}.{key}", right.get(key), found.get(key))][:5]
    if isinstance(right, list) and isinstance(found, list) and len(right) == len(found):
        pairs = zip(right, found, strict=True)
        return [told for place, pair in enumerate(pairs) for told in differences(f"{name}.{place}", *pair)][:5]
    return [] if right == found else [f"{name} is {str(found)[:100]}, undisturbed {str(right)[:100]}"]


def others(job: Job, folder: Path) -> dict[str, str]:
    """Every file that is not the command's: its path, size and SHA-256."""
    return {
        str(path.relative_to(folder)): f"{path.stat().st_size} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (path.name == CANARY or not _is_output(job, path.relative_to(folder)))
    }


def names_of(job: Job, folder: Path) -> set[str]:
    """The command's files by name; names that hold the clock are left out."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in files if _is_output(job, path) and not path.name.startswith("events.out")}


def _is_output(job: Job, path: Path) -> bool:
    return any(path.is_relative_to(output) for output in job.outputs)


def size_of(folder: Path) -> int:
    """Bytes that the files of a folder take."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of ``size`` bytes, in memory.

    Raises:
        PermissionError: this user may not mount one.
    """
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        folder.rmdir()
        raise PermissionError(f"no small disk can be mounted here ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
