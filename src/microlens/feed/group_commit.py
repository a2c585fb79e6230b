"""One thread that writes to a database; what arrives while a transaction is committed goes into the next one."""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, exc

Write = Callable[[Connection], Any]
_log = logging.getLogger(__name__)
_MOST_AT_ONCE = 1000
_MOST_KEPT = 100_000
_RETRY_SECONDS = 1.0


class StoreUnavailableError(Exception):
    """The event store cannot be read or written now: its disk is full, or its server does not answer."""


@dataclass(frozen=True)
class _Job:
    write: Write
    future: "Future[Any] | None"


class GroupCommit:
    """Runs writes in order, many in one transaction.

    A write is a function of the connection. It must be repeatable, because after an error the writes of a transaction
    are run again one by one.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._kept: deque[_Job] = deque(maxlen=_MOST_KEPT)
        self._thread = threading.Thread(target=self._run, name="event store", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> "Future[Any]":
        """Run a write; the future has its result once it is committed, or raises :class:`StoreUnavailableError`."""
        future: Future[Any] = Future()
        self._jobs.put(_Job(write, future))
        return future

    def later(self, write: Write) -> None:
        """Run a write that nobody waits for, before all that are submitted after it; repeated until it succeeds."""
        self._jobs.put(_Job(write, None))

    def close(self) -> None:
        """Commit what has been submitted, and end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        running = True
        while running:
            jobs = self._take()
            running = None not in jobs
            self._kept.extend(job for job in jobs if job is not None and job.future is None)
            waiting = [job for job in jobs if job is not None and job.future is not None]
            if waiting or self._kept:
                self._commit(waiting)

    def _take(self) -> list[_Job | None]:
        """Wait for jobs, for a while only if some are kept that have failed; None is the end."""
        jobs: list[_Job | None] = []
        with suppress(queue.Empty):
            jobs.append(self._jobs.get(timeout=_RETRY_SECONDS if self._kept else None))
            while jobs[-1] is not None and len(jobs) < _MOST_AT_ONCE:
                jobs.append(self._jobs.get_nowait())
        return jobs

    def _commit(self, waiting: list[_Job]) -> None:
        try:
            results = self._transaction([*self._kept, *waiting])[len(self._kept) :]
        except Exception as error:  # of one write or of the database; the thread goes on
            self._after(error, waiting)
            return
        self._kept.clear()
        for job, result in zip(waiting, results, strict=True):
            _resolve(job, result)

    def _transaction(self, jobs: list[_Job]) -> list[Any]:
        with self._engine.begin() as connection:
            return [job.write(connection) for job in jobs]

    def _after(self, error: Exception, waiting: list[_Job]) -> None:
        """Refuse all writes if the store is unavailable, or else find the one that is wrong."""
        if is_unavailable(error):
            _log.error("the event store cannot be written: %s", error)
            for job in waiting:
                _refuse(job, StoreUnavailableError(str(error)))
            return
        for job in [*self._kept, *waiting]:
            self._alone(job)
        self._kept.clear()

    def _alone(self, job: _Job) -> None:
        try:
            (result,) = self._transaction([job])
        except Exception as error:
            _log.error("a write failed: %s", error)
            _refuse(job, StoreUnavailableError(str(error)) if is_unavailable(error) else error)
        else:
            _resolve(job, result)


def is_unavailable(error: Exception) -> bool:
    """True if an error is about the database and not about a write: no space, no connection, locked."""
    lost = isinstance(error, exc.DBAPIError) and error.connection_invalidated
    return lost or isinstance(error, (exc.OperationalError, exc.InterfaceError, exc.TimeoutError))


def _resolve(job: _Job, result: Any) -> None:
    if job.future is not None and job.future.set_running_or_notify_cancel():
        job.future.set_result(result)


def _refuse(job: _Job, error: Exception) -> None:
    if job.future is not None and job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)
