"""Sorting events that do not fit in memory by user and time.

Events are read in batches and written to disk in runs, each sorted by user. The runs are then merged part by part: a
part holds all events of a range of users. The result does not depend on the sizes of batches, runs and parts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import psutil

from microlens.errors import InputError
from microlens.files.progress_bar import OnProgress
from microlens.release.events import Events
from microlens.release.ids import TextIds
from microlens.release.sorted_runs import Appearances, Run, positions_among_own, read_between, splitters, write_run
from microlens.release.stable_order import sort_stably
from microlens.release.timestamps import in_milliseconds

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Times = npt.NDArray[np.int64] | npt.NDArray[np.float64]
LEAST_MEMORY = 500_000_000
_FIXED_BYTES = 350_000_000  # the interpreter, libraries and a block of text
_BYTES_TO_SORT = 130  # of one event, with all copies; measured
_MOST_ROWS = 1 << 22  # more are not faster
_BYTES_PER_EVENT = 24  # in a batch with integer ids


@dataclass(frozen=True, kw_only=True)
class Part:
    """All events of the users ``user_ids`` (U,), ascending; those of user u are ``offsets[u]:offsets[u+1]``.

    ``items`` (E,) are numbers 1..N, ``times`` (E,) milliseconds or, without timestamps, positions in the user's
    sequence. ``repeated`` counts later repeats of a (user, item) pair, which were dropped; ``out_of_order`` counts
    events listed before an earlier event of the same user.
    """

    user_ids: pl.Series
    offsets: Int64
    items: Int32
    times: Int64
    repeated: int
    out_of_order: int


class SortedEvents:
    """The events of a source by user, then time, then position in the source.

    Attributes:
        item_ids: the distinct items (N,) in ascending order, Int64 or String.

    Args:
        events: the source, which is read to its end.
        folder: where the sorted runs are written, and read from by :meth:`parts`.
        rows: number of events of a run or a part, which are in memory at once; a part has more if a user has more.
        on_progress: called with (done, total) MB of the source.

    Raises:
        InputError: the events are invalid.
    """

    def __init__(self, events: Events, folder: Path, rows: int, on_progress: OnProgress | None = None) -> None:
        self._events, self._rows = events, rows
        self._runs: list[Run] = []
        items = Appearances()
        for frame in _gathered(events, rows):
            self._runs.append(write_run(folder / str(len(self._runs)), frame, items))
            if on_progress:
                on_progress(*events.progress)
        self._num_users = 0
        self.item_ids, self._item_numbers = items.ascending()

    @property
    def num_events(self) -> int:
        """Number of events, with repeated ones."""
        return sum(run.num_events for run in self._runs)

    @property
    def text_ids(self) -> TextIds:
        """Which ids are text."""
        return self._events.text_ids

    @property
    def notes(self) -> list[str]:
        """Choices made in reading the events; complete once all parts are made."""
        return self._events.notes(self._num_users)

    def parts(self) -> Iterator[Part]:
        """Merge the runs; parts have ascending users."""
        self._num_users = 0
        ends = splitters(self._runs, self._rows)
        bounds = [run.bounds(ends) for run in self._runs]
        for index in range(len(ends) + 1):
            slices = [(run, cuts[index], cuts[index + 1]) for run, cuts in zip(self._runs, bounds, strict=True)]
            yield self._part(*read_between(slices))

    def _part(self, users: pl.DataFrame, items: Int32, times: Times | None) -> Part:
        """Sort the events of some users, given by run: user and number of events, items and times."""
        user_ids = users["user"].unique().sort()
        self._num_users += len(user_ids)
        positions = positions_among_own(users["user"], user_ids)
        user, item = np.repeat(positions, users["count"].to_numpy()), self._item_numbers[items]
        if (positions[1:] < positions[:-1]).any():
            user, order = sort_stably(user)
            item = item[order]
            if times is not None:
                times = times[order]
        backwards = 0
        if times is not None:
            by_time, backwards = _in_time_order(user, times)
            if by_time is not None:
                item, times = item[by_time], times[by_time]
            times = self._in_milliseconds(times)
        kept = _first_of_each(user, item, len(self.item_ids) + 1)
        repeated = 0
        if kept is not None:
            repeated = len(kept) - int(np.count_nonzero(kept))
            user, item = user[kept], item[kept]
            times = times if times is None else times[kept]
        if times is None:  # without gaps where a repeat was dropped, which would pass for times
            times = _positions(user, len(user_ids))
        return Part(
            user_ids=user_ids,
            offsets=_offsets(user, len(user_ids)),
            items=item,
            times=times,
            repeated=repeated,
            out_of_order=backwards,
        )

    def _in_milliseconds(self, times: Times) -> Int64:
        time = in_milliseconds(pl.col("time"), self._events.unit, decimal=times.dtype.kind == "f")
        return pl.DataFrame({"time": times}).select(time).to_series().to_numpy()


def rows_within(memory: int | None) -> int:
    """The number of events that can be sorted at once within ``memory`` bytes, by default a quarter of what is free.

    Raises:
        InputError: ``memory`` is too small.
    """
    if memory is None:
        memory = max(LEAST_MEMORY, psutil.virtual_memory().available // 4)
    if memory < LEAST_MEMORY:
        raise InputError(
            f"memory is {memory / 1e6:,.0f} MB; sorting interactions needs {LEAST_MEMORY / 1e6:,.0f} MB or more."
        )
    return min(_MOST_ROWS, (memory - _FIXED_BYTES) // _BYTES_TO_SORT)


def _gathered(events: Events, rows: int) -> Iterator[pl.DataFrame]:
    """Concatenate batches up to ``rows`` events, or fewer if their ids are long."""
    held: list[pl.DataFrame] = []
    for batch in events.batches():
        for piece in batch.iter_slices(rows):
            if held and sum(frame.estimated_size() for frame in [*held, piece]) > _BYTES_PER_EVENT * rows:
                yield pl.concat(held, how="vertical_relaxed")
                held = []
            held.append(piece)
    yield pl.concat(held, how="vertical_relaxed")


def _offsets(users: Int32, num_users: int) -> Int64:
    """Where the events of each user begin, and the end of all: (U+1,); ``users`` (E,) are ascending."""
    return np.concatenate([[0], np.cumsum(np.bincount(users, minlength=num_users))])


def _positions(users: Int32, num_users: int) -> Int64:
    """The position of each event in the sequence of its user: (E,); ``users`` (E,) are ascending."""
    return np.arange(len(users)) - _offsets(users, num_users)[users]


def _in_time_order(users: Int32, times: Times) -> tuple[npt.NDArray[np.intp] | None, int]:
    """The order (E,) of events by user, then time, then position, and how many were misplaced; None if none were.

    Args:
        users: (E,) ascending.
        times: (E,).
    """
    backwards = int(np.count_nonzero((users[1:] == users[:-1]) & (times[1:] < times[:-1])))
    if not backwards:
        return None, 0
    by_time = sort_stably(times)[1]
    return by_time[sort_stably(users[by_time])[1]], backwards


def _first_of_each(users: Int32, items: Int32, size: int) -> npt.NDArray[np.bool_] | None:
    """Mask (E,) of the first event of each pair of user and item; None if no pair repeats.

    Args:
        users: (E,) ascending.
        items: (E,) below ``size``.
        size: number of item numbers.
    """
    ordered, order = sort_stably(users.astype(np.int64) * size + items)
    again = order[1:][ordered[1:] == ordered[:-1]]
    if not len(again):
        return None
    kept = np.ones(len(users), bool)
    kept[again] = False
    return kept
