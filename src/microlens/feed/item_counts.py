"""Counts of each item in the feed: exposures, views, likes, comments and the watched share."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Select, case, func, select

from microlens.data.interactions import Int64
from microlens.feed.event_store import EventStore
from microlens.feed.schema import EVENTS, EXPOSURES

Floats = npt.NDArray[np.float64]
_NAMES = ("exposures", "views", "likes", "comments", "ends")


class ItemCounts:
    """Counts by item number, (C,) each; they grow with the catalogue.

    Attributes:
        exposures: times shown.
        views: times started.
        likes: people who like it.
        comments: comments.
        ends: exposures of which it is known how much was watched.
        watched: sum of the watched shares of these.
    """

    def __init__(self, size: int) -> None:
        self.exposures, self.views, self.likes, self.comments, self.ends = (np.zeros(size, np.int64) for _ in _NAMES)
        self.watched: Floats = np.zeros(size)

    def grow(self, size: int) -> None:
        """Add items without counts."""
        for name in (*_NAMES, "watched"):
            counts = getattr(self, name)
            setattr(self, name, np.append(counts, np.zeros(size - len(counts), counts.dtype)))

    @classmethod
    def load(
        cls, store: EventStore, size: int, number: Callable[[str], int | None], duration_ms: Callable[[int], int | None]
    ) -> "ItemCounts":
        """Count what the store holds."""
        counts = cls(size)
        for statement, into in ((_exposures(), counts.exposures), *counts._of_events()):
            for row in store.read(statement):
                item = number(row["item"])
                if item is not None:
                    into[item] += row["count"]
        for row in store.read(_watched()):
            item = number(row["item"])
            duration = None if item is None else (duration_ms(item) or row["duration_ms"])
            if item is not None and duration:
                counts.ends[item] += 1
                counts.watched[item] += min(1.0, row["watched_ms"] / duration)
        return counts

    def _of_events(self) -> tuple[tuple[Select[Any], Int64], ...]:
        return (
            (_events("start"), self.views),
            (_events("comment"), self.comments),
            (_likes(), self.likes),
        )


def _exposures() -> Select[Any]:
    return select(EXPOSURES.c.item, func.count().label("count")).group_by(EXPOSURES.c.item)


def _events(kind: str) -> Select[Any]:
    return select(EVENTS.c.item, func.count().label("count")).where(EVENTS.c.kind == kind).group_by(EVENTS.c.item)


def _likes() -> Select[Any]:
    """The number of people whose last word on an item is that they like it."""
    by_person = (EVENTS.c.person, EVENTS.c.item)
    last = (
        select(*by_person, func.max(EVENTS.c.number).label("number"))
        .where(EVENTS.c.kind.in_(("like", "unlike")))
        .group_by(*by_person)
        .subquery()
    )
    likes = func.sum(case((EVENTS.c.kind == "like", 1), else_=0)).label("count")
    return select(EVENTS.c.item, likes).join(last, last.c.number == EVENTS.c.number).group_by(EVENTS.c.item)


def _watched() -> Select[Any]:
    """The longest time watched of each exposure."""
    return (
        select(
            func.max(EVENTS.c.item).label("item"),
            func.max(EVENTS.c.watched_ms).label("watched_ms"),
            func.max(EVENTS.c.duration_ms).label("duration_ms"),
        )
        .where(EVENTS.c.watched_ms.is_not(None))
        .group_by(EVENTS.c.request_id, EVENTS.c.position)
    )
