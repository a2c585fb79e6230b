"""Reading the interactions of a release from Parquet."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from microlens.errors import InputError, one_line
from microlens.release.columns import note_of_ignored, positions_by_name
from microlens.release.event_table import NAMES
from microlens.release.events import Events
from microlens.release.frame_columns import finish, id_column, times_of
from microlens.release.ids import TextIds
from microlens.release.timestamps import Clock

_ROWS = 1 << 20  # of a batch


class ParquetEvents(Events):
    """The events of a Parquet file with columns of users, items and times, found by name.

    The types of columns decide if ids are integers or text; rows are counted from 0 in messages.

    Raises:
        InputError: the file is no Parquet file, or a column is missing or empty, or has another type.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._reading():
            names = pl.scan_parquet(path, glob=False).collect_schema().names()
        found = positions_by_name(names, NAMES)
        missing = [name for name in NAMES if name not in found]
        if missing:
            raise InputError(f"{path} has no column of {missing[0]}s; its columns are {one_line(', '.join(names))}.")
        self._columns = {name: names[position] for name, position in found.items()}
        self._ignored = [name for name in names if name not in self._columns.values()]
        with self._reading():
            self._num_rows = int(self._scan().select(pl.len()).collect().item())
            first = self._scan().head(1).collect()
        if not self._num_rows:
            raise InputError(f"{path} holds no interactions.")
        self._clock, self._done = Clock(), 0
        self.text_ids = TextIds(**{name: self._ids(first, name, 0).dtype == pl.String for name in ("user", "item")})

    def batches(self) -> Iterator[pl.DataFrame]:
        """Read the events."""
        for start in range(0, self._num_rows, _ROWS):
            with self._reading():
                rows = self._scan().slice(start, _ROWS).collect()
            users, items = (self._ids(rows, name, start) for name in ("user", "item"))
            times = times_of(rows[self._columns["timestamp"]], str(self._path), self._clock, start)
            self._done = start + len(rows)
            yield pl.DataFrame([users.alias("user"), items.alias("item"), times.alias("timestamp")])
        finish(self._clock, self._columns["timestamp"], str(self._path))
        self.unit = self._clock.unit

    @property
    def progress(self) -> tuple[int, int]:
        """Size in memory of the rows that were read, and of all."""
        return 24 * self._done // 1_000_000, 24 * self._num_rows // 1_000_000

    def notes(self, num_users: int) -> list[str]:
        """Ignored columns and the unit of time."""
        note = self._clock.note
        times = [f"{self._path.name}: {note}"] if note else []
        return [*note_of_ignored(self._path.name, self._ignored), *times]

    def _scan(self) -> pl.LazyFrame:
        return pl.scan_parquet(self._path, glob=False).select(self._columns.values())

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn the errors of polars into InputError."""
        try:
            yield
        except pl.exceptions.PolarsError:
            raise InputError(f"{self._path} is not a complete Parquet file; copy it again.") from None

    def _ids(self, rows: pl.DataFrame, name: str, start: int) -> pl.Series:
        found = id_column(rows[self._columns[name]], str(self._path), start)
        if start and (found.dtype == pl.String) != getattr(self.text_ids, name):
            raise InputError(f"{self._path}: column '{self._columns[name]}' holds integers beyond 64 bits.")
        return found
