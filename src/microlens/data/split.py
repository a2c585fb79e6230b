"""The protocol that makes two numbers comparable, and the split it defines."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from microlens.data.interactions import Int32, Int64, Interactions
from microlens.errors import InputError

Part = Literal["valid", "test"]
# What the protocol gained after the first reports: at these values they count for no hash, and reports stay comparable.
ADDED_LATER: dict[str, Any] = {"min_item_count": 0}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that makes two numbers comparable; the default is the protocol of the MicroLens paper.

    Users with fewer than ``min_length`` items are dropped, the others cut to their last ``max_length``; items that
    vanish with the cut are no candidates. The last item of a user is the test target, the one before it the validation
    target, the rest is for training. A model reads the last ``max_history`` items before a target and ranks all items
    but those the user already had; an item that scores as high as the target stands before it. Items that lack a kind
    of content in ``require`` (clips, covers, sound), or have fewer than ``min_item_count`` interactions, are taken out
    before all this, once.
    """

    require: tuple[str, ...] = ()
    min_length: int = 5
    max_length: int = 13
    max_history: int = 10
    split: Literal["leave-one-out"] = "leave-one-out"
    candidates: Literal["all"] = "all"
    masked: Literal["history"] = "history"
    ties: Literal["against the model"] = "against the model"
    min_item_count: int = 0

    def __post_init__(self) -> None:
        """Check that a user of the least length has something to train on."""
        if self.min_length < 3:
            raise InputError(f"protocol.min_length is {self.min_length}; a train, validation and test item need 3.")
        if self.max_length < self.min_length:
            raise InputError(
                f"protocol.max_length is {self.max_length}; it must be at least min_length = {self.min_length}."
            )
        if self.max_history < 1:
            raise InputError(f"protocol.max_history is {self.max_history}; at least 1 is needed.")
        if self.min_item_count < 0:
            raise InputError(f"protocol.min_item_count is {self.min_item_count}; it must be 0 or more.")

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits; two reports are comparable when theirs are equal."""
        later = {name for name, value in ADDED_LATER.items() if getattr(self, name) == value}
        content = {name: value for name, value in asdict(self).items() if name not in later}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Leave-one-out train, validation and test parts of what the protocol keeps.

    Items are renumbered 1..N in ascending order of id; ``items_kept`` (N+1,) gives their numbers in the dataset, with
    0 for padding, and ``users_kept`` (U,) those of the users. ``sequences`` (E,) and ``offsets`` (U+1,) hold the cut
    sequences, oldest item first.
    """

    protocol: Protocol
    sequences: Int32
    offsets: Int64
    items_kept: Int64
    users_kept: Int64

    @property
    def num_users(self) -> int:
        """U, the users that the protocol keeps."""
        return len(self.users_kept)

    @property
    def num_items(self) -> int:
        """N, the candidate items, without padding."""
        return len(self.items_kept) - 1

    @property
    def num_events(self) -> int:
        """E, the interactions that the protocol keeps."""
        return len(self.sequences)

    @property
    def history_length(self) -> int:
        """L, the most items a model reads."""
        return self.protocol.max_history

    @cached_property
    def train_counts(self) -> Int64:
        """How often each item occurs in the train part, (N+1,); 0 for padding."""
        held_out = np.concatenate([self.offsets[1:] - 1, self.offsets[1:] - 2])
        counts = np.bincount(self.sequences, minlength=self.num_items + 1)
        return counts - np.bincount(self.sequences[held_out], minlength=self.num_items + 1)

    @cached_property
    def train_events(self) -> tuple[Int64, Int64]:
        """User of each of the T interactions of the train part (T,), and its place in ``sequences`` (T,), in order."""
        lengths = np.diff(self.offsets) - 2
        users = np.repeat(np.arange(self.num_users), lengths)
        starts = self.offsets[:-1] - (np.cumsum(lengths) - lengths)
        return users, starts[users] + np.arange(len(users))

    def train_items(self, users: Int64) -> Int32:
        """All train items of ``users`` (B,), left-padded: (B, max_length - 2)."""
        return self._before(users, held_out=2, length=self.protocol.max_length - 2)

    def train_sequences(self, users: Int64) -> Int32:
        """The last L+1 train items of ``users`` (B,), left-padded: (B, L+1)."""
        return self._before(users, held_out=2, length=self.history_length + 1)

    def targets(self, part: Part, users: Int64) -> Int32:
        """The target of ``users`` (B,) in ``part``: (B,)."""
        return self.sequences[self.offsets[users + 1] - _held_out(part)]

    def inputs(self, part: Part, users: Int64) -> Int32:
        """The last L items before the target of ``part``, left-padded: (B, L)."""
        return self._before(users, held_out=_held_out(part), length=self.history_length)

    def history(self, part: Part, users: Int64) -> Int32:
        """Everything known before the target of ``part``, left-padded: (B, max_length - 1)."""
        return self._before(users, held_out=_held_out(part), length=self.protocol.max_length - 1)

    def _before(self, users: Int64, held_out: int, length: int) -> Int32:
        ends = self.offsets[users + 1] - held_out
        places = ends[:, None] - np.arange(length, 0, -1)
        real = places >= self.offsets[users][:, None]
        return np.where(real, self.sequences[np.where(real, places, 0)], np.int32(0))


def leave_one_out(
    interactions: Interactions, protocol: Protocol, excluded: npt.NDArray[np.bool_] | None = None
) -> Split:
    """Cut the interactions as ``protocol`` says and hold out the last two items of every user.

    Args:
        interactions: all events.
        protocol: what to keep.
        excluded: (N+1,) item numbers that are no candidates at all, for lack of content.

    Raises:
        InputError: no user has enough items.
    """
    rare = np.bincount(interactions.items, minlength=interactions.num_items + 1) < protocol.min_item_count
    rare[0] = False  # padding
    excluded = rare if excluded is None else excluded | rare
    if excluded.any():
        interactions = _without_items(interactions, excluded)
    lengths = np.diff(interactions.offsets)
    users = np.flatnonzero(lengths >= protocol.min_length)
    if not len(users):
        rare_out = (
            f", without the {int(rare.sum()):,} items of fewer than {protocol.min_item_count}" if rare.any() else ""
        )
        raise InputError(
            f"no user has {protocol.min_length} or more items, the least the protocol accepts "
            f"(the longest of {len(lengths):,} has {int(lengths.max(initial=0))}{rare_out})."
        )
    kept = np.minimum(lengths[users], protocol.max_length)
    offsets = np.concatenate([[0], np.cumsum(kept)])
    starts = interactions.offsets[users + 1] - kept
    places = np.repeat(starts - offsets[:-1], kept) + np.arange(offsets[-1])
    items_kept, sequences = np.unique(interactions.items[places], return_inverse=True)
    return Split(
        protocol=protocol,
        sequences=(sequences + 1).astype(np.int32),
        offsets=offsets.astype(np.int64),
        items_kept=np.concatenate([[0], items_kept]).astype(np.int64),
        users_kept=users.astype(np.int64),
    )


def _without_items(interactions: Interactions, excluded: npt.NDArray[np.bool_]) -> Interactions:
    kept = ~excluded[interactions.items]
    before = np.concatenate([[0], np.cumsum(kept)])
    return replace(
        interactions,
        items=interactions.items[kept],
        times=interactions.times[kept],
        offsets=before[interactions.offsets],
    )


def _held_out(part: Part) -> int:
    return {"valid": 2, "test": 1}[part]
