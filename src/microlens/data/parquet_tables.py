"""Writing Parquet tables in a stream."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
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

    def read(*_: Any) -> Iterator[pl.DataFrame]:
        yield first
        yield from groups

    with _OpenFile(path) as file:
        try:
            register_io_source(read, schema=first.schema).sink_parquet(file, row_group_size=ROWS)
        except pl.exceptions.PolarsError:
            if file.error is not None:
                raise file.error from None
            raise


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
