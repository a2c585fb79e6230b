"""The progress of a download."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

SECONDS_BETWEEN_CALLS = 0.1


@dataclass
class Progress:
    """Counts of a running download.

    Attributes:
        files: number of files to fetch.
        files_done: number of files that were fetched or given up.
        size: bytes of all files whose size is known.
        size_done: bytes that were fetched, or are there from an earlier run of an unfinished file.
        in_flight: (bytes, bytes in all if known) of the files that are being fetched, by path.
    """

    files: int = 0
    files_done: int = 0
    size: int = 0
    size_done: int = 0
    in_flight: dict[str, tuple[int, int | None]] = field(default_factory=dict)


OnProgress = Callable[[Progress], None]


class Tally:
    """Keeps the counts from several threads, and calls ``on_progress`` with them at most ten times a second."""

    def __init__(self, on_progress: OnProgress | None = None) -> None:
        self.progress = Progress()
        self._on_progress, self._lock, self._called = on_progress, Lock(), 0.0

    def expect(self, files: int, size: int) -> None:
        """Count files that are going to be fetched."""
        with self._lock:
            self.progress.files += files
            self.progress.size += size

    def on_bytes(self, path: str, done: int, total: int | None) -> None:
        """Count the bytes of a file that is being fetched, of which ``done`` are here."""
        with self._lock:
            before, _ = self.progress.in_flight.get(path, (0, None))
            self.progress.in_flight[path] = (done, total)
            self.progress.size_done += done - before
            self._call()

    def on_end(self, path: str) -> None:
        """Count a file as done."""
        with self._lock:
            self.progress.in_flight.pop(path, None)
            self.progress.files_done += 1
            self._call()

    def _call(self) -> None:
        if self._on_progress and time.monotonic() - self._called >= SECONDS_BETWEEN_CALLS:
            self._called = time.monotonic()
            self._on_progress(self.progress)
