"""Inside the process that runs cases: limits, one case after the other, and what became of each."""

import faulthandler
import os
import resource
import shutil
import signal
import time
import traceback
import zlib
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.fuzz.target import Target, check_answer


def work(
    target: type[Target], seed: int, folder: Path, memory: int, connection: Connection, environment: dict[str, str]
) -> None:
    """Answer case numbers that come through ``connection`` until it is closed; see :func:`tests.fuzz.runner.fuzz`."""
    os.environ.update(environment)
    os.setsid()  # what a reader starts is of no concern to the terminal
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1), os.dup2(quiet, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(1)
    subject = target()
    subject.open(folder / "seeds" / target.name)
    place = (folder / f"{target.name}-{seed}.place").open("w+")
    faulthandler.enable(place)
    faulthandler.register(signal.SIGUSR1, place)
    held = _memory("VmData") + 2 * memory
    resource.setrlimit(resource.RLIMIT_DATA, (held, held))
    connection.send("ready")
    while True:
        try:
            case = connection.recv()
        except EOFError:
            return
        place.seek(0), place.truncate()
        work = folder / "work" / f"{target.name}-{seed}-{case}"
        connection.send(_one_case(subject, seed, case, work, memory))


def _one_case(target: Target, seed: int, case: int, work: Path, memory: int) -> dict[str, Any]:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    random = np.random.default_rng([seed, zlib.crc32(target.name.encode()), case])
    done, started = "could not be made", time.process_time()
    answer: dict[str, Any] = {}
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory starts anew
    before = _memory("VmRSS")
    try:
        done = target.make(work, random)
        outcome = target.read(work, random) or "read"
    except AssertionError as error:
        outcome, answer = "wrong", _finding("wrong", error, done)
    except target.answers as error:
        outcome = type(error).__name__
        try:
            check_answer(str(error))
        except AssertionError as wrong:
            outcome, answer = "wrong", _finding("wrong", wrong, done)
    except BaseException as error:
        outcome, answer = "exception", _finding("exception", error, done)
    grown = _memory("VmHWM") - before
    if not answer and grown > memory:
        outcome = "memory"
        answer = {"kind": "memory", "what": f"{grown / 1e9:.1f} GB", "where": "", "done": done, "trace": ""}
    return {**answer, "outcome": outcome, "seconds": time.process_time() - started}


def _finding(kind: str, error: BaseException, done: str) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/src/microlens/" in frame.filename] or list(frames)
    where = f"{ours[-1].filename.rpartition('/microlens/')[2]}:{ours[-1].lineno} {ours[-1].name}"
    what = f"{type(error).__name__}: {error}"
    return {
        "kind": kind,
        "what": what[:1000],
        "where": where,
        "done": done,
        "trace": "".join(traceback.format_exception(error))[-6000:],
    }


def _memory(name: str) -> int:
    """A figure of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    return 0
