"""Complete user histories, oldest first, from which the next item is recommended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from microlens.data.interactions import Int32, Int64, Interactions
from microlens.data.split import Split


@dataclass(frozen=True, kw_only=True)
class Histories:
    """The items of U users, oldest first; those of user u are ``items[offsets[u]:offsets[u+1]]``."""

    offsets: Int64
    items: Int32

    @classmethod
    def of(cls, histories: Sequence[Int64]) -> Self:
        """Combine the histories of several users, arrays of item numbers (H,)."""
        return cls(
            offsets=np.cumsum([0, *map(len, histories)]),
            items=np.concatenate([np.zeros(0, np.int32), *histories]).astype(np.int32),
        )

    @classmethod
    def of_split(cls, split: Split, interactions: Interactions) -> Self:
        """All interactions that ``split`` keeps of its users, including validation and test, in order of time."""
        begins, ends = interactions.offsets[split.users_kept], interactions.offsets[split.users_kept + 1]
        number = np.zeros(interactions.num_items + 1, np.int32)  # item number in the split; 0 if dropped
        number[split.items_kept] = np.arange(split.num_items + 1)
        of_kept = np.zeros(interactions.num_users, bool)
        of_kept[split.users_kept] = True
        items = number[interactions.items]
        in_split = (items > 0) & np.repeat(of_kept, np.diff(interactions.offsets))
        # Of the events with an item of the split, the last ones of each user are kept.
        before = np.concatenate([[0], np.cumsum(in_split)])
        lengths = np.diff(split.offsets)
        positions = np.flatnonzero(in_split)
        last = np.repeat(before[ends] - lengths, before[ends] - before[begins])
        kept = positions[np.arange(len(positions)) >= last]
        return cls(offsets=np.concatenate([[0], np.cumsum(lengths)]), items=items[kept])

    def __getitem__(self, user: int) -> Int32:
        """The items of one user, oldest first: (H,)."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def last(self, users: Int64, length: int | None = None) -> Int32:
        """The last ``length`` items of ``users`` (B,), or all of them, left-padded with 0: (B, length)."""
        begins, ends = self.offsets[users], self.offsets[users + 1]
        width = int((ends - begins).max(initial=1)) if length is None else length
        positions = ends[:, None] - np.arange(width, 0, -1)
        real = positions >= begins[:, None]
        last = np.zeros(real.shape, np.int32)
        last[real] = self.items[positions[real]]
        return last
