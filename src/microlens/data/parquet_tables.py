"""Writing Parquet tables in a stream."""

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from queue import Full, Queue
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

ROWS = 1 << 18
"""Number of rows of a row group."""


def write_table(frames: Iterable[pl.DataFrame], path: Path) -> None:
    """Write frames of the same columns, at least one, as one table; the file depends on their rows only.

    Raises:
        OSError: the disk is full.
    """
    groups = _regrouped(frames)
    first = next(groups)
    handed: Queue[pl.DataFrame | None] = Queue(maxsize=1)

    def read(*_: Any) -> Iterator[pl.DataFrame]:
        while (group := handed.get()) is not None:
            yield group

    def write() -> None:
        register_io_source(read, schema=first.schema).sink_parquet(file, row_group_size=ROWS)

    # Frames are made in this thread: made in those of polars, each would keep heap memory that the others cannot use.
    with _OpenFile(path) as file, ThreadPoolExecutor(1) as thread:
        writing = thread.submit(write)
        try:
            for group in chain([first], groups):
                if not _handed_over(group, handed, writing):
                    break
        finally:
            _handed_over(None, handed, writing)
        try:
            writing.result()
        except pl.exceptions.PolarsError:
            if file.error is not None:
                raise file.error from None
            raise


def _handed_over(group: pl.DataFrame | None, handed: "Queue[pl.DataFrame | None]", writing: Future[None]) -> bool:
    """Wait until ``group`` is in the queue; False if ``writing`` ended before."""
    while not writing.done():
        with suppress(Full):
            handed.put(group, timeout=0.1)
            return True
    return False


def _regrouped(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The rows of ``frames`` in frames of :data:`ROWS`, the last one shorter or, if there is no row, empty."""
    held: list[pl.DataFrame] = []
    yielded = False
    for frame in frames:
        held.append(frame)
        if sum(map(len, held)) < ROWS:
            continue
        whole = pl.concat(held)
        full = len(whole) // ROWS * ROWS
        yield from whole[:full].iter_slices(ROWS)
        held, yielded = [whole[full:]], True
    if not yielded or any(map(len, held)):
        yield pl.concat(held)


class _OpenFile(io.FileIO):
    """A file that remembers the error of a failed write, which polars reports as one of the format."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w")
        self.error: OSError | None = None

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.error = error
            raise
