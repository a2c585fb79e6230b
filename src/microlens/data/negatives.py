"""Items that a target is ranked against in training, beside those of its batch."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from microlens.data.interactions import Int32, Int64
from microlens.data.split import Split
from microlens.errors import InputError


@dataclass(frozen=True)
class Negatives:
    """Where negatives come from.

    ``each``: ``count`` items for each target, uniform over the catalogue, none of them among the user's train items.
    ``shared``: ``count`` items for all targets of a batch, drawn by their share of the train part, repeats included.
    ``catalogue``: every item.
    """

    split: Split
    kind: Literal["each", "shared", "catalogue"]
    count: int = 0

    def __post_init__(self) -> None:
        """Check that there is something to draw for everyone."""
        if self.kind == "each":
            users, positions = self.split.train_events
            pairs = np.unique(users * (self.split.num_items + 1) + self.split.sequences[positions])
            most = int(np.bincount(pairs // (self.split.num_items + 1)).max())
            if most >= self.split.num_items:
                raise InputError(
                    f"train.loss draws items that a user has not had, but one user had all {self.split.num_items}; "
                    'use train.loss = "in-batch-softmax".'
                )

    @property
    def candidates(self) -> Int64 | None:
        """Items that are in every batch; None where that is decided by drawing."""
        return np.arange(1, self.split.num_items + 1) if self.kind == "catalogue" else None

    def draw(self, random: np.random.Generator, rows: Int64, own: Int32) -> Int64 | None:
        """Draw for the targets of one batch: (Q, count), (count,), or nothing where the whole catalogue is there.

        Args:
            random: decides what is drawn.
            rows: (Q,) the row of each target.
            own: (B, H) the train items of each row's user, 0 at padding.
        """
        if self.kind == "catalogue":
            return None
        if self.kind == "shared":
            shares = random.random(self.count) * self._cumulative[-1]
            shared: Int64 = np.searchsorted(self._cumulative, shares, side="right").astype(np.int64)
            return shared
        drawn = random.integers(1, self.split.num_items + 1, (len(rows), self.count))
        again = _among(drawn, own[rows])
        while again.any():
            drawn[again] = random.integers(1, self.split.num_items + 1, int(again.sum()))
            again = _among(drawn, own[rows])
        return drawn

    @cached_property
    def _cumulative(self) -> Int64:
        """How many train interactions are with items up to each number: (N+1,)."""
        return np.cumsum(self.split.train_counts)


def _among(items: Int64, own: Int32) -> npt.NDArray[np.bool_]:
    """Whether each of ``items`` (Q, K) is in its row of ``own`` (Q, H): (Q, K)."""
    found = np.zeros(items.shape, np.bool_)
    for column in own.T:  # a dozen columns; all at once would take H times the memory
        found |= items == column[:, None]
    return found
