"""Runs of events on disk, each sorted by user, and where to cut them into parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from microlens.release.stable_order import sort_stably

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
RUN_FILES = ("[0-9]*.users.parquet", "[0-9]*.items", "[0-9]*.times")
"""Patterns of the files of runs."""
_ROW_GROUP = 1 << 16
Bounds = tuple[int, int]
"""A position in the users of a run, and in its events."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Events sorted by user, then position in the source, in the files ``path.users.parquet``, ``.items``, ``.times``.

    ``time`` is the type of the times; None if there are none.
    """

    path: Path
    num_users: int
    num_events: int
    time: np.dtype[np.generic] | None

    def users(self, start: int = 0, end: int | None = None) -> pl.DataFrame:
        """Users from ``start`` to ``end``, ascending, and the number of events of each: columns user and count."""
        length = None if end is None else end - start
        return pl.scan_parquet(f"{self.path}.users.parquet", glob=False).slice(start, length).collect()

    def items(self, start: int, end: int) -> Int32:
        """Items of the events from ``start`` to ``end``, numbered in order of appearance."""
        return np.fromfile(f"{self.path}.items", np.int32, end - start, offset=4 * start)

    def times(self, start: int, end: int) -> npt.NDArray[Any] | None:
        """Times of the events from ``start`` to ``end``, if there are any."""
        if self.time is None:
            return None
        return np.fromfile(f"{self.path}.times", self.time, end - start, offset=8 * start)

    def bounds(self, ends: pl.Series) -> list[Bounds]:
        """The bounds of the parts that end with the users ``ends``, and of the last part."""
        users = self.users()
        before = np.concatenate([[0], np.cumsum(users["count"].to_numpy(), dtype=np.int64)])
        cuts = users["user"].search_sorted(ends, side="right").to_numpy()
        positions = [0, *cuts.tolist(), self.num_users]
        return [(position, int(before[position])) for position in positions]


class Appearances:
    """Numbers distinct values 0, 1, ... in order of their first batch."""

    def __init__(self) -> None:
        self._values: pl.Series | None = None  # ascending
        self._numbers: Int32 = np.zeros(0, np.int32)

    def numbers_of(self, column: pl.Series) -> Int32:
        """Number a batch (E,): (E,)."""
        found = column.unique().sort()
        among = self._add(found)
        numbers: Int32 = self._numbers[among][positions_among(column, found)]
        return numbers

    def ascending(self) -> tuple[pl.Series, Int32]:
        """All values (N,) in ascending order, and the rank from 1 of each number: (N,)."""
        assert self._values is not None, "no batch was numbered"
        ranks = np.empty(len(self._numbers), np.int32)
        ranks[self._numbers] = np.arange(1, len(ranks) + 1, dtype=np.int32)
        return self._values, ranks

    def _add(self, found: pl.Series) -> npt.NDArray[np.intp]:
        """The positions of the ascending values ``found`` (n,) among all, to which new ones are added."""
        if self._values is None:
            self._values, self._numbers = found, np.arange(len(found), dtype=np.int32)
            return np.arange(len(found))
        positions = self._values.search_sorted(found)
        is_new = self._values.gather(positions.clip(upper_bound=len(self._values) - 1)) != found
        new = found.filter(is_new)
        if len(new):
            count = len(self._numbers)
            values = pl.concat([self._values, new])
            order = values.arg_sort()
            self._values = values.gather(order)
            self._numbers = np.append(self._numbers, np.arange(count, count + len(new), dtype=np.int32))[order]
            positions = self._values.search_sorted(found)
        return positions.to_numpy()


def positions_among(values: pl.Series, among: pl.Series) -> Int32:
    """The index of each of ``values`` (E,) in the ascending distinct ``among`` (n,), which holds them all: (E,)."""
    if values.dtype == pl.String:
        return values.cast(pl.Enum(among)).to_physical().cast(pl.Int32).to_numpy()
    if not len(among) or int(among[-1]) - int(among[0]) > 8 * len(values):
        return among.search_sorted(values).cast(pl.Int32).to_numpy()
    table = np.empty(among[-1] - among[0] + 1, np.int32)  # a table is faster where it is small
    table[among.to_numpy() - among[0]] = np.arange(len(among), dtype=np.int32)
    positions: Int32 = table[values.to_numpy() - among[0]]
    return positions


def _keys(column: pl.Series) -> tuple[pl.Series | None, Int32 | Int64]:
    """Integers in the order of ids (E,): the ids themselves, or the index of each among the distinct texts (n,)."""
    if column.dtype != pl.String:
        return None, column.to_numpy()
    texts = column.unique().sort()
    return texts, positions_among_own(column, texts)


def positions_among_own(values: pl.Series, distinct: pl.Series) -> Int32:
    """The index of each of ``values`` (E,) in ``distinct`` (n,), its distinct values in ascending order: (E,)."""
    positions = _positions_by_hash(values, distinct) if values.dtype == pl.String and len(values) else None
    return positions_among(values, distinct) if positions is None else positions


def _positions_by_hash(column: pl.Series, texts: pl.Series) -> Int32 | None:
    """The index of each of ``column`` (E,) among its distinct ``texts`` (n,): (E,); None if two of them share a hash.

    Where no two do, the texts and the column are in one order when each is sorted by hash. Looking up a million texts
    one by one, as :func:`positions_among` does, takes five times as long.
    """
    hashes_of_texts = texts.hash().to_numpy()
    by_hash = np.argsort(hashes_of_texts)
    ordered = hashes_of_texts[by_hash]
    if (ordered[1:] == ordered[:-1]).any():
        return None
    hashes = column.hash().to_numpy()
    order = np.argsort(hashes)
    hashes = hashes[order]
    rank = np.cumsum(np.append(False, hashes[1:] != hashes[:-1]))  # among distinct hashes
    positions = np.empty(len(column), np.int32)
    positions[order] = by_hash[rank]
    return positions


def write_run(path: Path, frame: pl.DataFrame, items: Appearances) -> Run:
    """Write the run ``path`` of events, columns user, item and perhaps timestamp; ``items`` numbers the items.

    The columns are taken out of ``frame`` one by one, because ids that are text take most of the memory.
    """
    numbers = items.numbers_of(frame.drop_in_place("item"))
    texts, keys = _keys(frame.drop_in_place("user"))
    ordered, order = sort_stably(keys)
    del keys
    begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    users = pl.DataFrame(
        {
            "user": ordered[begins] if texts is None else texts,
            "count": np.diff(begins, append=len(ordered)).astype(np.uint32),
        }
    )
    users.write_parquet(f"{path}.users.parquet", compression="uncompressed", row_group_size=_ROW_GROUP)
    numbers[order].tofile(f"{path}.items")
    time = None
    if "timestamp" in frame.columns:
        times = frame["timestamp"].to_numpy()
        times[order].tofile(f"{path}.times")
        time = times.dtype
    return Run(path=path, num_users=len(users), num_events=len(order), time=time)


def splitters(runs: Sequence[Run], rows: int) -> pl.Series:
    """The last user of every part but the last; parts have at most ``rows`` events, unless one user has more."""
    if sum(run.num_events for run in runs) <= rows:
        return runs[0].users(0, 0)["user"]
    step = max(1, rows // (4 * len(runs)))  # a sampled user stands for as many events of its run
    samples = []
    for run in runs:
        users = run.users()
        ends = np.cumsum(users["count"].to_numpy(), dtype=np.int64)
        samples.append(users["user"].gather(np.searchsorted(ends, np.arange(step, run.num_events + 1, step))))
    most = 3 * len(runs)  # so that the events of each run after its last sample fit in, too
    return pl.concat(samples).sort()[most - 1 :: most].unique().sort()


def read_between(slices: Sequence[tuple[Run, Bounds, Bounds]]) -> tuple[pl.DataFrame, Int32, npt.NDArray[Any] | None]:
    """Concatenate slices of runs: users with their number of events, items, and times, integers or decimals."""
    users = pl.concat([run.users(start[0], end[0]) for run, start, end in slices])
    items = np.concatenate([run.items(start[1], end[1]) for run, start, end in slices])
    times = [run.times(start[1], end[1]) for run, start, end in slices]
    found = [values for values in times if values is not None]
    return users, items, np.concatenate(found) if found else None
