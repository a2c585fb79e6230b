"""Fetching many files at a time, none of which stops the others."""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from microlens.download.failures import TransferError, UnavailableError
from microlens.download.progress import Tally

Fetch = Callable[[], int | None]
"""Fetches one file; returns the bytes received, or None if it was there. Raises UnavailableError or TransferError."""
FAILURES_WITHOUT_SUCCESS = 20
"""Files of a folder after which it is taken to be missing, if none was there."""


@dataclass
class Download:
    """What a download has done.

    Attributes:
        folder: the release folder.
        fetched: bytes received of each file that was fetched, by its path in the release.
        present: number of files that were there already.
        missing: why a file is not there, by its path in the release.
        notes: what else a user should know.
    """

    folder: Path
    fetched: dict[str, int] = field(default_factory=dict)
    present: int = 0
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """The bytes that were received."""
        return sum(self.fetched.values())

    def count(self, path: str, received: int | None) -> None:
        """Count a file that was fetched, or was there already if ``received`` is None."""
        if received is None:
            self.present += 1
        else:
            self.fetched[path] = received


def fetch_all(tasks: Mapping[str, Fetch], done: Download, tally: Tally, stop: Event, jobs: int) -> dict[str, str]:
    """Run the tasks, ``jobs`` at a time, and enter the files that were fetched in ``done``.

    Args:
        tasks: what fetches each file, by its path in the release.
        done: what the download has done.
        tally: counts the files.
        stop: is set when the command is to end, after which tasks raise StoppedError.
        jobs: number of threads.

    Returns:
        Why files were not fetched, by path. If the first files all fail, the others are not tried.
    """
    failed: dict[str, str] = {}
    running: dict[Future[int | None], str] = {}
    waiting, succeeded = deque(tasks.items()), False
    pool = ThreadPoolExecutor(jobs)
    try:
        while waiting or running:
            while waiting and len(running) < 2 * jobs:
                path, fetch = waiting.popleft()
                running[pool.submit(fetch)] = path
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                path = running.pop(future)
                try:
                    done.count(path, future.result())
                    succeeded = True
                except (UnavailableError, TransferError) as error:
                    failed[path] = str(error)
                tally.on_end(path)
            if not succeeded and len(failed) >= FAILURES_WITHOUT_SUCCESS:
                failed |= dict.fromkeys((path for path, _ in waiting), f"not tried, as {len(failed)} others failed")
                waiting.clear()
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return failed
