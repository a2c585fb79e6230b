"""Counts of each item: interactions in the dataset, and exposures, views, likes, comments and watched share here."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Select, case, func, select

from microlens.data.interactions import Int32
from microlens.feed.catalogue import Catalogue
from microlens.feed.database import Row
from microlens.feed.event_store import EventStore
from microlens.feed.person import watched_share
from microlens.feed.schema import EVENTS, EXPOSURES

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
_AT_ONCE = 1 << 21  # interactions, which bincount converts to 64 bits
_OF_THE_FEED = ("exposures", "views", "likes", "comments", "ends", "watched")


class ItemCounts:
    """Counts by item number, (C,) each; they grow with the catalogue.

    Args:
        catalogue: the items.
        new_below: items with fewer interactions and exposures are new.

    Attributes:
        interactions: interactions in the dataset.
        exposures: times shown.
        is_new: whether each item is new.
        version: raised after every change of ``is_new``.
        views: times started.
        likes: people who like it.
        comments: comments.
        ends: exposures of which it is known how much was watched.
        watched: sum of the watched shares of these.
    """

    def __init__(self, catalogue: Catalogue, new_below: int) -> None:
        self._catalogue, self._new_below = catalogue, new_below
        size = len(catalogue.active)
        self.interactions, self.exposures, self.views, self.likes, self.comments, self.ends = _zeros(size)
        items = catalogue.dataset.interactions.items
        for start in range(0, len(items), _AT_ONCE):
            self.interactions += np.bincount(items[start : start + _AT_ONCE], minlength=size).astype(np.int32)
        self.watched: Floats = np.zeros(size)
        self.is_new: Bools = self.interactions < new_below
        self.version = 0
        self._changing = threading.Lock()

    def grow(self, size: int) -> None:
        """Add items without counts."""
        with self._changing:
            for name in ("interactions", *_OF_THE_FEED):
                setattr(self, name, _grown(getattr(self, name), size))
            self._find_new()

    def load(self, store: EventStore) -> None:
        """Replace the counts of the feed by those of the store; an item that is added meanwhile has none."""
        size = len(self.exposures)
        fresh = {name: np.zeros(size, getattr(self, name).dtype) for name in _OF_THE_FEED}
        for name, statement in _COUNTED.items():
            for row in store.read(statement()):
                number = self._catalogue.number(row["item"])
                if number is not None and number < size:
                    fresh[name][number] += row["count"]
        for row in store.read(_watched()):
            number = self._catalogue.number(row["item"])
            if number is not None and number < size:
                fresh["ends"][number] += 1
                fresh["watched"][number] += watched_share(row)
        with self._changing:
            for name, counts in fresh.items():
                setattr(self, name, _grown(counts, len(self.interactions)))
            self._find_new()

    def _find_new(self) -> None:
        self.is_new = self.interactions + self.exposures < self._new_below
        self.version += 1

    def add_exposure(self, number: int) -> None:
        """Count an item that is shown."""
        with self._changing:
            self.exposures[number] += 1
            if self.is_new[number] and self.interactions[number] + self.exposures[number] >= self._new_below:
                self.is_new[number] = False
                self.version += 1

    def add_event(self, number: int, event: Row, liked: int) -> None:
        """Count an event about an item; ``liked`` is the change in the number of people who like it."""
        with self._changing:
            self.likes[number] += liked
            self.views[number] += event["kind"] == "start"
            self.comments[number] += event["kind"] == "comment"
            if event["kind"] == "end" and event["watched_ms"] is not None:
                self.ends[number] += 1
                self.watched[number] += watched_share(event)


def _zeros(size: int) -> Iterator[Int32]:
    return (np.zeros(size, np.int32) for _ in range(6))


def _grown(counts: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    return np.append(counts, np.zeros(max(0, size - len(counts)), counts.dtype))


def _exposures() -> Select[Any]:
    return select(EXPOSURES.c.item, func.count().label("count")).group_by(EXPOSURES.c.item)


def views_of_items() -> Select[Any]:
    """The number of times that each item was started: item, count."""
    return select(EVENTS.c.item, func.count().label("count")).where(EVENTS.c.kind == "start").group_by(EVENTS.c.item)


def _comments() -> Select[Any]:
    return select(EVENTS.c.item, func.count().label("count")).where(EVENTS.c.kind == "comment").group_by(EVENTS.c.item)


def likes_of_items() -> Select[Any]:
    """The number of people whose last word on each item is that they like it: item, count."""
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
    """How each exposure ended; of several ends the longest."""
    return (
        select(
            func.max(EVENTS.c.item).label("item"),
            func.max(EVENTS.c.watched_ms).label("watched_ms"),
            func.max(EVENTS.c.duration_ms).label("duration_ms"),
        )
        .where(EVENTS.c.kind == "end", EVENTS.c.watched_ms.is_not(None))
        .group_by(EVENTS.c.request_id, EVENTS.c.position)
    )


_COUNTED: dict[str, Callable[[], Select[Any]]] = {
    "exposures": _exposures,
    "views": views_of_items,
    "comments": _comments,
    "likes": likes_of_items,
}
