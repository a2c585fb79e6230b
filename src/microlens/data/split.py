"""Splitting a dataset's interactions into train, validation and test parts according to a protocol."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from microlens.data.holdout import HOLDOUTS
from microlens.data.interactions import Int32, Int64, Interactions, Labels
from microlens.data.protocol import ONE_AFTER_ANOTHER, SELECTED_BY_TRAINING, Protocol
from microlens.errors import InputError, shown
from microlens.release.given_split import TEST, TRAIN, VALID

Part = Literal["valid", "test"]
_AT_ONCE = 1 << 24  # events; np.bincount converts them to 64 bits


def check_part(part: object) -> None:
    """Check that a part of a split has targets.

    Raises:
        InputError: it is neither "valid" nor "test".
    """
    if part not in get_args(Part):
        raise InputError(f"part is {shown(part)}; accepted: 'valid', 'test'.")


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
        counts = np.zeros(self.num_items + 1, np.int64)
        is_train = _alternating(self.train_ends - self.offsets[:-1], self.offsets[1:] - self.train_ends)
        for start in range(0, len(self.sequences), _AT_ONCE):
            here = slice(start, start + _AT_ONCE)
            counts += np.bincount(self.sequences[here][is_train[here]], minlength=len(counts))
        return counts

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
        """All training items of ``users`` (B,), left-padded to the longest sequence among them: (B, W)."""
        return self._all_before(self.train_ends, users)

    def train_sequences(self, users: Int64) -> Int32:
        """The last L+1 training items of ``users`` (B,), left-padded: (B, L+1)."""
        return self._before(self.train_ends, users, self.history_length + 1)

    def inputs(self, part: Part, users: Int64) -> Int32:
        """The last L known items of ``users`` (B,) before the targets of ``part``, left-padded: (B, L)."""
        return self._before(self._known_ends(part), users, self.history_length)

    def history(self, part: Part, users: Int64) -> Int32:
        """All items of ``users`` (B,) that are excluded from the ranking of ``part``, left-padded: (B, H).

        H is the largest number of them, so that one user with thousands of items costs only the batches with that user.
        """
        return self._all_before(self._masked_ends(part), users)

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

    def _all_before(self, ends: Int64, users: Int64) -> Int32:
        return self._before(ends, users, int((ends[users] - self.offsets[users]).max(initial=1)))

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
    rare = np.zeros(interactions.num_items + 1, bool)
    if protocol.min_item_count:
        rare = np.bincount(interactions.items, minlength=len(rare)) < protocol.min_item_count
        rare[0] = False  # padding
    lacking = np.zeros_like(rare) if excluded is None else excluded
    removed = lacking | rare
    if removed.any():
        interactions = _of_events(interactions, ~removed[interactions.items])
    lengths = np.diff(interactions.offsets)
    # Users with too few training items are dropped below.
    users = np.flatnonzero(lengths >= (1 if protocol.split in SELECTED_BY_TRAINING else protocol.min_length))
    if not len(users):
        longest = int(lengths.max(initial=0))
        raise InputError(nobody_left(len(lengths), longest, int(rare.sum()), protocol, _what_lacks(lacking, protocol)))
    interactions = _last_of(interactions, users, protocol.max_length)
    return _arranged(interactions, users, HOLDOUTS[protocol.split](interactions, protocol.seed), protocol)


def _what_lacks(lacking: npt.NDArray[np.bool_], protocol: Protocol) -> str:
    """How many of the items (N+1,) lack content that the protocol requires, as the end of a sentence; "" if none."""
    count = int(lacking.sum())
    required = ", ".join(protocol.require)
    return f"; {count:,} of {len(lacking) - 1:,} items lack what protocol.require asks for: {required}" if count else ""


def nobody_left(users: int, longest: int, rare: int, protocol: Protocol, lacking: str = "") -> str:
    """The message that none of ``users`` has enough items, without ``rare`` items; one has the most, ``longest``.

    ``lacking`` ends the sentence, with the items that were removed for lack of content.
    """
    rare_out = f", without the {rare:,} items of fewer than {protocol.min_item_count}" if rare else ""
    return (
        f"no user has {protocol.min_length} or more items, the protocol's minimum "
        f"(the longest of {users:,} has {longest}{rare_out}){lacking or '; protocol.min_length sets another'}."
    )


def _last_of(interactions: Interactions, users: Int64, most: int) -> Interactions:
    """The last ``most`` events (0: all) of ``users`` (U,), without other users."""
    lengths = np.diff(interactions.offsets)
    kept = np.zeros_like(lengths)
    kept[users] = np.minimum(lengths[users], most) if most else lengths[users]
    is_kept = ~_alternating(lengths - kept, kept)
    return replace(
        interactions,
        offsets=np.concatenate([[0], np.cumsum(kept[users])]),
        items=interactions.items[is_kept],
        times=interactions.times[is_kept],
        split=None if interactions.split is None else interactions.split[is_kept],
        user_ids=interactions.user_ids[users],
    )


def _arranged(interactions: Interactions, users: Int64, labels: Labels, protocol: Protocol) -> Split:
    """Build the split of the labelled events of ``users`` (U,), without users with too few training items."""
    least = protocol.min_length - 2
    starts = interactions.offsets[:-1]  # every user has an event
    counts = np.stack([np.add.reduceat(labels == part, starts, dtype=np.int64) for part in (TRAIN, VALID, TEST)], 1)
    stays = counts[:, TRAIN] >= least
    if not counts[stays].any(0).all():
        raise InputError(
            f"among the {int(stays.sum()):,} users with {least} or more training items, the protocol's minimum, none "
            "has a target in validation or in test."
        )
    of_kept = np.repeat(stays, counts.sum(1))
    counts = counts[stays]
    ends = np.cumsum(counts)
    ordered = _by_label(interactions.items[of_kept], labels[of_kept], counts.sum(1))
    # Items of users that are dropped stay candidates of a given split, as in MMRec.
    items_kept = _distinct(interactions.items if protocol.split == "given" else ordered, interactions.num_items)
    return Split(
        protocol=protocol,
        sequences=_numbers(items_kept, interactions.num_items)[ordered],
        offsets=np.concatenate([[0], ends[2::3]]),
        train_ends=ends[0::3],
        valid_ends=ends[1::3],
        items_kept=items_kept,
        users_kept=users[stays].astype(np.int64),
    )


def _by_label(items: Int32, labels: Labels, lengths: Int64) -> Int32:
    """The events of users with ``lengths`` (U,), sorted by label within each user: (E,)."""
    backwards = labels[1:] < labels[:-1]
    backwards[np.cumsum(lengths)[:-1] - 1] = False  # from one user to the next
    if not backwards.any():
        return items
    users = np.repeat(np.arange(len(lengths)), lengths)
    return items[np.argsort(3 * users + labels, kind="stable")]


def _distinct(items: Int32, num_items: int) -> Int64:
    """The distinct items, ascending, after 0 for padding: (N+1,)."""
    occurs = np.zeros(num_items + 1, bool)
    occurs[items] = True
    return np.concatenate([[0], np.flatnonzero(occurs)])


def _numbers(items_kept: Int64, num_items: int) -> Int32:
    """The number of each item of the dataset among ``items_kept`` (N+1,), 0 for others: (num_items + 1,)."""
    numbers = np.zeros(num_items + 1, np.int32)
    numbers[items_kept] = np.arange(len(items_kept))
    return numbers


def _alternating(first: Int64, second: Int64) -> npt.NDArray[np.bool_]:
    """Mask (E,) that is True for ``first[u]`` events of each user u (U,), then False for ``second[u]``."""
    return np.repeat(np.tile([True, False], len(first)), np.stack([first, second], 1).ravel())


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
