"""Training of the missing runs of a table, each in a separate process."""

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerProcess
from threading import Event

from microlens.bench import worker
from microlens.bench.rows import Bench, Job
from microlens.cores import available_cores
from microlens.errors import InputError
from microlens.files.writing import lock_folder
from microlens.runs.folder import claim_run_folder
from microlens.runs.list_metrics import read_beyond

POLL_SECONDS = 0.2
STOP_SECONDS = 10.0
LOG = "log.txt"

OnRow = Callable[[str, str], None]


class Runner:
    """Trains the runs of a table; a failed run does not stop the others.

    The output of a run goes to ``log.txt`` in its folder; killed runs are resumed.

    Args:
        bench: the table.
        jobs: number of runs to train at once; they share the processor's cores.
        on_row: called with a run's name and "started", its progress, "failed", "stopped", or "finished" (also if it was
            finished before).
        seconds: time limit, after which runs are stopped, to be resumed later, and no other run starts.
    """

    def __init__(self, bench: Bench, *, jobs: int, on_row: OnRow, seconds: float | None = None) -> None:
        self.bench, self.parallel, self.on_row = bench, jobs, on_row
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.stop = Event()
        self.failed: dict[str, str] = {}
        self.threads = max(1, available_cores() // jobs) if jobs > 1 else None

    def run(self) -> dict[str, str]:
        """Train the missing runs.

        Returns:
            For each failed run, by name, the last line that it printed.

        Raises:
            InputError: another process is working in the table's folder.
        """
        self.bench.output.mkdir(parents=True, exist_ok=True)
        first = [job for job in self.bench.jobs() if job.data_hash != self.bench.data_hash]
        others = [job for job in self.bench.jobs() if job.data_hash == self.bench.data_hash]
        with lock_folder(self.bench.output):
            for jobs in (first, others):
                self._all(jobs)
        return self.failed

    def _all(self, jobs: list[Job]) -> None:
        with ThreadPoolExecutor(self.parallel) as pool:
            futures = [pool.submit(self._one, job) for job in jobs]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self.stop.set()
                raise

    def _one(self, job: Job) -> None:
        if self._is_over():
            return
        try:
            self._train_if_missing(job)
        except BaseException:
            self.stop.set()
            raise

    def _is_over(self) -> bool:
        return self.stop.is_set() or (self.deadline is not None and time.monotonic() > self.deadline)

    def _train_if_missing(self, job: Job) -> None:
        if _is_done(job):
            self.on_row(job.name, "finished")
            return
        self.on_row(job.name, "started")
        try:
            process = self._train(job)
        except InputError as error:  # the folder was not made by microlens
            self.failed[job.name] = str(error)
            self.on_row(job.name, "failed")
            return
        if process is None:
            self.on_row(job.name, "stopped")
            return
        fault = _last_line(job, process.exitcode or 0) if process.exitcode else _fault_of(job)
        if fault is not None:
            self.failed[job.name] = fault
        self.on_row(job.name, "finished" if fault is None else "failed")

    def _train(self, job: Job) -> ForkServerProcess | None:
        """Train one run; return the finished process, or None if it was stopped."""
        claim_run_folder(job.folder, LOG)
        _take_parts(job)
        process = worker.start(job.config, job.folder / LOG, self.threads, fresh=job.is_outdated())
        try:
            while process.exitcode is None:
                if self._is_over():
                    return None
                process.join(POLL_SECONDS)
                self.on_row(job.name, _progress_of(job))
        finally:
            _end(process)
        return process


def _take_parts(job: Job) -> None:
    """Copy the parts of a fusion that other rows have trained with the same configuration into its folder."""
    for part in job.config.part_configs():
        if part.output.exists():
            continue
        for folder in job.folder.parent.glob(f"*-{part.hash}"):
            row = Job(name=folder.name, config=part.model_copy(update={"output": folder}), data_hash=job.data_hash)
            if _is_done(row):
                unfinished = part.output.with_name(f"{part.output.name}.new")
                shutil.rmtree(unfinished, ignore_errors=True)
                shutil.copytree(folder, unfinished)
                unfinished.replace(part.output)
                break


def _is_done(job: Job) -> bool:
    return _fault_of(job) is None  # an unreadable report counts as missing


def _fault_of(job: Job) -> str | None:
    """Why a run cannot stand in the table, or None if it can."""
    try:
        complete = job.report() is not None and read_beyond(job.folder) is not None
    except InputError as error:
        return str(error)
    return None if complete else f"{job.folder} has no complete results of this configuration, data and version"


def _progress_of(job: Job) -> str:
    """The finished epochs, and an upper bound of the remaining minutes."""
    path = job.folder / "metrics.jsonl"
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        seconds = sum(line["seconds"] for line in lines)
    except (OSError, ValueError, KeyError, TypeError):  # missing, being written, or of another run
        return ""
    left = job.config.train.epochs - len(lines)
    if not lines or not left:
        return ""
    minutes = left * seconds / len(lines) / 60
    return f"epoch {len(lines) + 1} of at most {job.config.train.epochs}, {minutes:.0f} min left at most"


def _last_line(job: Job, exitcode: int) -> str:
    log = job.folder / LOG
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    said = lines[-1].removeprefix("microlens: ").strip() if lines else "it printed nothing"
    return said if exitcode > 0 else f"killed by signal {-exitcode}; it last printed: {said}"


def _end(process: ForkServerProcess) -> None:
    if process.exitcode is not None:
        return
    process.terminate()
    process.join(STOP_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
