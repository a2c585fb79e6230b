"""Filtering a release: by time, by the number of interactions of items and users, and to a k-core."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from microlens.errors import InputError
from microlens.files.progress_bar import OnProgress
from microlens.files.writing import check_is_new
from microlens.release.whole_release import read_release
from microlens.subsets.k_core import Numbers, frequent, k_core
from microlens.subsets.subset import Step, Subset, write_subset
from microlens.subsets.windows import Moment, in_window, moment


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Conditions on the interactions of a release, applied in this order.

    1. Interactions before ``start`` (see :data:`microlens.subsets.windows.Moment`), or not before ``end``, are removed.
    2. Items with fewer than ``warm`` interactions are removed, once, as in the paper's Warm-20.
    3. Users with fewer than ``min_length`` interactions are removed, once.
    4. Users with fewer than ``user_core`` and items with fewer than ``item_core`` interactions are removed until none
       is left, so that the result is a k-core.
    """

    start: Moment | None = None
    end: Moment | None = None
    warm: int = 1
    min_length: int = 1
    user_core: int = 1
    item_core: int = 1

    def __post_init__(self) -> None:
        """Check the conditions.

        Raises:
            InputError: a number is below 1, or there is no condition.
        """
        for name in ("warm", "min_length", "user_core", "item_core"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if not self._conditions():
            raise InputError(
                "no condition is given that could remove anything; name start, end, or a number above 1 for warm, "
                "min_length, user_core or item_core."
            )

    def _conditions(self) -> bool:
        cores = (self.warm, self.min_length, self.user_core, self.item_core)
        return any(least > 1 for least in cores) or self.start is not None or self.end is not None

    def steps(self, events: pl.DataFrame) -> tuple[pl.DataFrame, list[Step]]:
        """Apply the conditions to ``events``: those that are left, and what each step left."""
        steps = [Step.of("release", events)]
        if self.start is not None or self.end is not None:
            events = self._within(events)
            steps.append(Step.of(self._window(), events))
        for name, least in (("item", self.warm), ("user", self.min_length)):
            if least > 1:
                events = events.filter(frequent(numbers_of(events[name]), least))
                steps.append(Step.of(f"{name}s with {least} or more interactions, once", events))
        if max(self.user_core, self.item_core) > 1:
            users, items = numbers_of(events["user"]), numbers_of(events["item"])
            kept, rounds = k_core(users, items, self.user_core, self.item_core)
            events = events.filter(kept)
            name = f"users with {self.user_core} and items with {self.item_core} or more, {rounds} rounds"
            steps.append(Step.of(name, events))
        return events, steps

    def _within(self, events: pl.DataFrame) -> pl.DataFrame:
        if "timestamp" not in events.columns:
            raise InputError("the release has no timestamps, so it has no time window; it needs NAME_pairs.csv.")
        start, end = (
            None if at is None else moment(at, name) for name, at in (("start", self.start), ("end", self.end))
        )
        return events.filter(in_window(events["timestamp"], start, end))

    def _window(self) -> str:
        begin = [] if self.start is None else [f"from {self.start}"]
        return " ".join([*begin, *([] if self.end is None else [f"before {self.end}"])])


def numbers_of(ids: pl.Series) -> Numbers:
    """Consecutive numbers from 0 of ids (E,), integers or text, in any order."""
    return np.asarray(ids.rank("dense").to_numpy(), np.int64) - 1


def filter_release(
    release: str | Path,
    out: str | Path,
    *,
    start: Moment | None = None,
    end: Moment | None = None,
    warm: int = 1,
    min_length: int = 1,
    user_core: int = 1,
    item_core: int = 1,
    renumber: bool = False,
    on_progress: OnProgress | None = None,
) -> Subset:
    """Write the part of a release that meets conditions as a release, with the titles, tags, media, ... of its items.

    Repeated (user, item) pairs are dropped first. Media files are hard links where the file system has them.

    Args:
        release: release folder.
        out: folder of the new release; must not exist.
        start: keep interactions from this time on: a number as in the release, ISO 8601 such as 2023-01-31, or a date
            or datetime, in UTC if it has no time zone.
        end: keep interactions before this time.
        warm: then remove items with fewer interactions, once.
        min_length: then remove users with fewer interactions, once.
        user_core: then remove users with fewer interactions, and
        item_core: items with fewer, alternately, until none is left to remove.
        renumber: number users and items 1, 2, ...; ``NAME_user_ids.csv`` and ``NAME_item_ids.csv`` hold the former ids.
        on_progress: called with (done, total) media files.

    Raises:
        InputError: the release cannot be read, a condition is invalid, nothing is left, or ``out`` exists. Nothing is
            written in these cases.
    """
    check_is_new(Path(out))
    conditions = Filter(
        start=start, end=end, warm=warm, min_length=min_length, user_core=user_core, item_core=item_core
    )
    tables = read_release(Path(release))
    events, steps = conditions.steps(tables.events)
    left = replace(tables, events=events)
    return write_subset(Path(release), Path(out), left, steps, renumber=renumber, on_progress=on_progress)
