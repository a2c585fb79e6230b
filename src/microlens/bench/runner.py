"""Training the rows of a table that are missing, each in a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event

from microlens.bench.rows import Bench, Row
from microlens.errors import InputError
from microlens.files import alone_in

LOOK_SECONDS = 0.2
STOP_SECONDS = 10.0

OnRow = Callable[[str, str], None]


def run_rows(bench: Bench, *, jobs: int, on_row: OnRow) -> dict[str, str]:
    """Train the rows that have no report yet; a row that fails does not stop the others.

    A row's output goes to ``log.txt`` in its run folder; what a killed row had trained is picked up again.

    Args:
        bench: the table.
        jobs: how many rows train at once; they share the processor's cores.
        on_row: called with a row's name and "started", "failed", or "finished" (when it was there already, too).

    Returns:
        For each row that failed, by name, the last line that it printed.

    Raises:
        InputError: another process works in the table's folder.
    """
    bench.output.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}
    stop = Event()

    def run(row: Row) -> None:
        if stop.is_set():
            return
        try:
            train_if_missing(row)
        except BaseException:
            stop.set()
            raise

    def train_if_missing(row: Row) -> None:
        fault = None
        if not _is_done(row, bench):
            on_row(row.name, "started")
            fault = _train(row, jobs, stop)
        if not stop.is_set():
            if fault is not None:
                failed[row.name] = fault
            on_row(row.name, "finished" if fault is None else "failed")

    with alone_in(bench.output), ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(run, row) for row in bench.rows]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            raise
    return failed


def _is_done(row: Row, bench: Bench) -> bool:
    with suppress(InputError):  # a report that cannot be read is no report
        return row.report(bench.data_hash) is not None
    return False


def _train(row: Row, jobs: int, stop: Event) -> str | None:
    """Train a row; returns None when it ended well, else the last line of its log."""
    row.folder.mkdir(parents=True, exist_ok=True)
    assignments = [f"dataset={row.config.dataset}", f"output={row.folder}"]
    command = [sys.executable, "-m", "microlens", "train", str(row.config_path)]
    command += [part for assignment in assignments for part in ("--set", assignment)]
    cores = len(os.sched_getaffinity(0))
    environment = {**os.environ, "COLUMNS": "120"}
    if jobs > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, cores // jobs))
    log = row.folder / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)  # noqa: S603
        try:
            while process.poll() is None and not stop.is_set():
                time.sleep(LOOK_SECONDS)
        finally:
            _end(process)
    if process.returncode == 0:
        return None
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = lines[-1].removeprefix("microlens: ").strip() if lines else "it printed nothing"
    return said if process.returncode > 0 else f"killed by signal {-process.returncode}; it last printed: {said}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
