"""Fingerprints of interactions: equal ones tell what two releases have in common, and what was permuted in between."""

import hashlib
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Colours = NDArray[np.uint64]

_ROUNDS = 4
_DIGITS = 16
_STEP = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """Hashes of a table of interactions; the first four do not depend on the order of its rows.

    rows: its pairs of user and item. graph: the same whatever users and items are called. lengths_by_user: the number
    of interactions of each user in ascending order of their ids. counts_by_item: likewise. sequences: the items of each
    user in order of time. timestamps: all times in ascending order, None if they are unknown.
    """

    rows: str
    graph: str
    lengths_by_user: str
    counts_by_item: str
    sequences: str
    timestamps: str | None = None


class Graph:
    """Interactions as a bipartite graph, with one integer colour for each user and item.

    Args:
        events: columns user and item, sorted by user and then in order of time.
    """

    def __init__(self, events: pl.DataFrame) -> None:
        self.users, self.user_of_row = np.unique(events["user"].to_numpy(), return_inverse=True)
        self.items, self.item_of_row = np.unique(events["item"].to_numpy(), return_inverse=True)
        self._by_item = np.argsort(self.item_of_row, kind="stable")
        self.lengths = np.bincount(self.user_of_row)
        self.counts = np.bincount(self.item_of_row)
        self._user_begins = np.cumsum(self.lengths) - self.lengths
        self._item_begins = np.cumsum(self.counts) - self.counts
        self.position_of_row = np.arange(len(events)) - np.repeat(self._user_begins, self.lengths)

    def user_colours(self, item_colours: Colours, *, in_order: bool = False) -> Colours:
        """A colour (U,) of each user from the colours (N,) of their items, as a set or in order of time."""
        of_row = item_colours[self.item_of_row]
        if in_order:
            of_row = of_row + self.position_of_row.astype(np.uint64) * _STEP
        return mixed(np.add.reduceat(mixed(of_row), self._user_begins))

    def item_colours(self, user_colours: Colours) -> Colours:
        """A colour (N,) of each item from the colours (U,) of its users."""
        return mixed(np.add.reduceat(mixed(user_colours[self.user_of_row])[self._by_item], self._item_begins))

    def refined(self, rounds: int) -> Colours:
        """Colours (N,) of the items after ``rounds`` of Weisfeiler-Lehman refinement, beginning with their counts."""
        colours = mixed(self.counts.astype(np.uint64))
        for _ in range(rounds):
            colours = mixed(colours * _STEP + self.item_colours(self.user_colours(colours)))
        return colours


def mixed(values: Colours) -> Colours:
    """The finalizer of SplitMix64, a bijection of 64-bit integers that looks random (Steele et al., OOPSLA 2014)."""
    values = values + _STEP
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def fingerprints(events: pl.DataFrame, *, timed: bool) -> Fingerprints:
    """The fingerprints of E interactions with integer ids.

    Args:
        events: columns user, item and timestamp, sorted by user and time.
        timed: True if the timestamps are times, not positions.
    """
    graph = Graph(events)
    rows = events.select("user", "item").sort("user", "item")
    item_colours = graph.refined(_ROUNDS)
    user_colours = graph.user_colours(item_colours)
    return Fingerprints(
        rows=_digest(rows["user"].to_numpy(), rows["item"].to_numpy()),
        graph=_digest(np.sort(user_colours), np.sort(item_colours)),
        lengths_by_user=_digest(graph.lengths),
        counts_by_item=_digest(graph.counts),
        sequences=_digest(events["user"].to_numpy(), events["item"].to_numpy()),
        timestamps=_digest(np.sort(events["timestamp"].to_numpy())) if timed else None,
    )


def _digest(*arrays: NDArray[np.integer]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        plain = array.astype("<u8" if array.dtype == np.uint64 else "<i8")
        digest.update(plain.tobytes())
    return digest.hexdigest()[:_DIGITS]
