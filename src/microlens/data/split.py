"""Splitting a dataset's interactions into train, validation and test parts according to a protocol."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from microlens.data.holdout import HOLDOUTS
from microlens.data.interactions import Int32, Int64, Interactions, Labels
from microlens.data.protocol import ONE_AFTER_ANOTHER, SELECTED_BY_TRAINING, Protocol
from microlens.errors import InputError
from microlens.release.given_split import TRAIN

Part = Literal["valid", "test"]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Train, validation and test parts of the interactions that the protocol keeps.

    Items are renumbered 1..N in ascending order of id; ``items_kept`` (N+1,) gives their numbers in the dataset, with
    0 for padding, and ``users_kept`` (U,) those of the users. ``sequences`` (E,) holds the interactions sorted by user,
    then by part (train, validation, test), oldest first in each part. Those of user u are
    ``sequences[offsets[u]:offsets[u+1]]``; the train part ends before ``train_ends[u]``, validation before
    ``valid_ends[u]``. A part has Q targets, sorted by user; under leave-one-out one per user, so that Q = U.
    """

    protocol: Protocol
    sequences: Int32
    offsets: Int64
    train_ends: Int64
    valid_ends: Int64
    items_kept: Int64
    users_kept: Int64

    @property
    def num_items(self) -> int:
        """N, the number of candidate items, without padding."""
        return len(self.items_kept) - 1

    @property
    def history_length(self) -> int:
        """L, the maximum number of items that a model reads."""
        return self.protocol.max_history

    @property
    def num_users(self) -> int:
        """U, the number of users that the protocol keeps."""
        return len(self.users_kept)

    @property
    def num_events(self) -> int:
        """E, the number of interactions that the protocol keeps."""
        return len(self.sequences)

    @cached_property
    def train_counts(self) -> Int64:
        """Number of occurrences of each item in the train part, (N+1,); 0 for padding."""
        return np.bincount(self.sequences[self.train_events[1]], minlength=self.num_items + 1)

    @cached_property
    def train_events(self) -> tuple[Int64, Int64]:
        """User (T,) and index in ``sequences`` (T,) of each of the T training interactions, in order."""
        return _between(self.offsets[:-1], self.train_ends)

    def targets(self, part: Part) -> Int32:
        """The items of the targets of ``part``: (Q,)."""
        return self.sequences[self._targets[part][1]]

    def target_users(self, part: Part) -> Int64:
        """The users of the targets of ``part``, ascending: (Q,)."""
        return self._targets[part][0]

    @cached_property
    def _targets(self) -> dict[Part, tuple[Int64, Int64]]:
        return {
            "valid": _between(self.train_ends, self.valid_ends),
            "test": _between(self.valid_ends, self.offsets[1:]),
        }

    def train_items(self, users: Int64) -> Int32:
        """All training items of ``users`` (B,), left-padded to the longest sequence of all users: (B, W)."""
        return self._before(self.train_ends, users, int(np.max(self.train_ends - self.offsets[:-1])))

    def train_sequences(self, users: Int64) -> Int32:
        """The last L+1 training items of ``users`` (B,), left-padded: (B, L+1)."""
        return self._before(self.train_ends, users, self.history_length + 1)

    def inputs(self, part: Part, users: Int64) -> Int32:
        """The last L known items of ``users`` (B,) before the targets of ``part``, left-padded: (B, L)."""
        return self._before(self._known_ends(part), users, self.history_length)

    def history(self, part: Part, users: Int64) -> Int32:
        """All items of ``users`` (B,) that are excluded from the ranking of ``part``, left-padded: (B, H)."""
        return self._before(self._masked_ends(part), users, int(self.history_lengths(part).max()))

    def history_lengths(self, part: Part) -> Int64:
        """Number of items of each user that are excluded from the ranking of ``part``: (U,)."""
        return self._masked_ends(part) - self.offsets[:-1]

    def _masked_ends(self, part: Part) -> Int64:
        if part == "test" and self.protocol.masked == "train-and-validation":
            return self.valid_ends
        return self._known_ends(part)

    def _known_ends(self, part: Part) -> Int64:
        validation_is_known = part == "test" and self.protocol.split in ONE_AFTER_ANOTHER
        return self.valid_ends if validation_is_known else self.train_ends

    def _before(self, ends: Int64, users: Int64, length: int) -> Int32:
        positions = ends[users][:, None] - np.arange(length, 0, -1)
        real = positions >= self.offsets[users][:, None]
        return np.where(real, self.sequences[np.where(real, positions, 0)], np.int32(0))


def make_split(interactions: Interactions, protocol: Protocol, excluded: npt.NDArray[np.bool_] | None = None) -> Split:
    """Filter and split interactions according to ``protocol``.

    Args:
        interactions: all interactions.
        protocol: protocol to apply.
        excluded: (N+1,) boolean mask of item numbers to remove because they lack content.

    Raises:
        InputError: no user has enough items, no training items or targets remain, or the split needs timestamps and
            there are none.
    """
    rare = np.bincount(interactions.items, minlength=interactions.num_items + 1) < protocol.min_item_count
    rare[0] = False  # padding
    excluded = rare if excluded is None else excluded | rare
    if excluded.any():
        interactions = _of_events(interactions, ~excluded[interactions.items])
    lengths = np.diff(interactions.offsets)
    # Users with too few training items are dropped below.
    users = np.flatnonzero(lengths >= (1 if protocol.split in SELECTED_BY_TRAINING else protocol.min_length))
    if not len(users):
        raise InputError(_nobody(lengths, int(rare.sum()), protocol))
    interactions = _last_of(interactions, users, protocol.max_length)
    return _arranged(interactions, users, HOLDOUTS[protocol.split](interactions, protocol.seed), protocol)


def _nobody(lengths: Int64, rare: int, protocol: Protocol) -> str:
    rare_out = f", without the {rare:,} items of fewer than {protocol.min_item_count}" if rare else ""
    return (
        f"no user has {protocol.min_length} or more items, the protocol's minimum "
        f"(the longest of {len(lengths):,} has {int(lengths.max(initial=0))}{rare_out})."
    )


def _last_of(interactions: Interactions, users: Int64, most: int) -> Interactions:
    """The last ``most`` events (0: all) of ``users`` (U,), without other users."""
    lengths = np.diff(interactions.offsets)[users]
    kept = np.minimum(lengths, most) if most else lengths
    _, positions = _between(interactions.offsets[users + 1] - kept, interactions.offsets[users + 1])
    return replace(
        interactions,
        offsets=np.concatenate([[0], np.cumsum(kept)]),
        items=interactions.items[positions],
        times=interactions.times[positions],
        split=None if interactions.split is None else interactions.split[positions],
        user_ids=interactions.user_ids[users],
    )


def _arranged(interactions: Interactions, users: Int64, labels: Labels, protocol: Protocol) -> Split:
    """Build the split of the labelled events of ``users`` (U,), without users with too few training items."""
    least = protocol.min_length - 2
    of_event = np.repeat(np.arange(len(users)), np.diff(interactions.offsets))
    counts = np.bincount(3 * of_event + labels, minlength=3 * len(users)).reshape(-1, 3)
    stays = counts[:, TRAIN] >= least
    if not counts[stays].any(0).all():
        raise InputError(
            f"among the {int(stays.sum()):,} users with {least} or more training items, the protocol's minimum, none "
            "has a target in validation or in test."
        )
    events = np.flatnonzero(stays[of_event])
    order = events[np.argsort(3 * of_event[events] + labels[events], kind="stable")]
    # Items of users that are dropped stay candidates of a given split, as in MMRec.
    items_kept = np.unique(interactions.items if protocol.split == "given" else interactions.items[order])
    ends = np.cumsum(counts[stays])
    return Split(
        protocol=protocol,
        sequences=(np.searchsorted(items_kept, interactions.items[order]) + 1).astype(np.int32),
        offsets=np.concatenate([[0], ends[2::3]]),
        train_ends=ends[0::3],
        valid_ends=ends[1::3],
        items_kept=np.concatenate([[0], items_kept]).astype(np.int64),
        users_kept=users[stays].astype(np.int64),
    )


def _between(starts: Int64, ends: Int64) -> tuple[Int64, Int64]:
    """Range number (Q,) and position (Q,) of all positions in the U ranges from ``starts`` (U,) to ``ends`` (U,)."""
    lengths = ends - starts
    numbers = np.repeat(np.arange(len(starts)), lengths)
    begins = np.cumsum(lengths) - lengths
    return numbers, (starts - begins)[numbers] + np.arange(len(numbers))


def _of_events(interactions: Interactions, kept: npt.NDArray[np.bool_]) -> Interactions:
    """The events where ``kept`` (E,) is True; all users stay."""
    before = np.concatenate([[0], np.cumsum(kept)])
    return replace(
        interactions,
        items=interactions.items[kept],
        times=interactions.times[kept],
        split=None if interactions.split is None else interactions.split[kept],
        offsets=before[interactions.offsets],
    )
