"""Negative items for training, in addition to those in the batch."""

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
    """Sampler of negatives.

    ``each``: ``count`` items per target, uniform over the catalogue without the user's training items. ``shared``:
    ``count`` items for all targets of a batch, sampled with replacement in proportion to their training counts.
    ``catalogue``: every item.
    """

    split: Split
    kind: Literal["each", "shared", "catalogue"]
    count: int = 0

    def __post_init__(self) -> None:
        """Check that every user has an item that can be sampled."""
        split = self.split
        if self.kind == "each":
            lengths = split.train_ends - split.offsets[:-1]
            users = np.flatnonzero(lengths >= split.num_items)
            if any(len(np.unique(items[items > 0])) == split.num_items for items in split.train_items(users)):
                raise InputError(
                    f"train.loss samples items that a user has not had, but one user had all {split.num_items}; "
                    'use train.loss = "in-batch-softmax".'
                )

    @property
    def candidates(self) -> Int64 | None:
        """Items added to every batch; None if negatives are sampled."""
        return np.arange(1, self.split.num_items + 1) if self.kind == "catalogue" else None

    def draw(self, random: np.random.Generator, rows: Int64, own: Int32) -> Int64 | None:
        """Sample negatives for the targets of one batch.

        Args:
            random: random number generator.
            rows: (Q,) row of each target.
            own: (B, H) training items of the user of each row, 0 at padding.

        Returns:
            (Q, count) for ``each``, (count,) for ``shared``, None for ``catalogue``.
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
        """Cumulative training counts by item number: (N+1,)."""
        return np.cumsum(self.split.train_counts)


def _among(items: Int64, own: Int32) -> npt.NDArray[np.bool_]:
    """True where an element of ``items`` (Q, K) is in the same row of ``own`` (Q, H): (Q, K)."""
    found = np.zeros(items.shape, np.bool_)
    for column in own.T:  # a dozen columns; a single comparison would take H times the memory
        found |= items == column[:, None]
    return found
