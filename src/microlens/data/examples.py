"""Training examples, the rows of batches: a user's sequence, a pair, or an item with the user's other items."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from microlens.data.interactions import Int32, Int64
from microlens.data.split import Split

ExampleKind = Literal["sequences", "pairs", "rest"]


@dataclass(frozen=True)
class Examples:
    """The examples of one kind in a split's training set.

    ``sequences``: a user's last L + 1 training items, each of which predicts the next; U examples. ``pairs``: a user
    and one training item; T examples, one per interaction. ``rest``: one training item as the target of all other
    training items of the user, including later ones; T examples.
    """

    split: Split
    kind: ExampleKind

    def __len__(self) -> int:
        return self.split.num_users if self.kind == "sequences" else len(self.split.train_events[0])

    @property
    def last_only(self) -> bool:
        """True if the only target of a row is its last item."""
        return self.kind != "sequences"

    def rows(self, numbers: Int64) -> tuple[Int64, Int32]:
        """The users (B,) and left-padded sequences (B, S) of the examples (B,); S is 1 for pairs, else L + 1."""
        if self.kind == "sequences":
            return numbers, self.split.train_sequences(numbers)
        all_users, all_positions = self.split.train_events
        users, positions = all_users[numbers], all_positions[numbers]
        targets = self.split.sequences[positions][:, None]
        if self.kind == "pairs":
            return users, targets
        others = _without(self.split.train_items(users), self.split.train_ends[users] - positions)
        return users, np.concatenate([_as_wide(others, self.split.history_length), targets], 1)

    def targets_of(self, sequence: Int32) -> Int64:
        """The row in ``sequence`` (B, S) of each of its Q targets: (Q,)."""
        return rows_of_targets(sequence, last_only=self.last_only)


def rows_of_targets(sequence: Int32, *, last_only: bool) -> Int64:
    """The row of each target of sequences (B, S), of which the last item is the only one if ``last_only``: (Q,)."""
    if last_only:
        return np.arange(len(sequence))
    return np.nonzero((sequence[:, :-1] > 0) & (sequence[:, 1:] > 0))[0]


def _without(items: Int32, from_end: Int64) -> Int32:
    """Remove the item ``from_end`` (B,) positions from the end (1: the last) of each row of (B, W): (B, W-1)."""
    W = items.shape[1]
    columns = np.arange(W - 1)
    taken = columns + (columns >= (W - from_end)[:, None])
    return np.take_along_axis(items, taken, 1)


def _as_wide(items: Int32, width: int) -> Int32:
    """Cut or left-pad ``items`` (B, W) to ``width`` columns: (B, width)."""
    return np.pad(items, ((0, 0), (max(0, width - items.shape[1]), 0)))[:, -width:]
