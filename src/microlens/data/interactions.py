"""Interactions as dense, memory-mapped arrays."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from microlens.data.arrays import open_array
from microlens.errors import InputError
from microlens.release.pairs import Pairs

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
Labels = npt.NDArray[np.int8]
ItemIds = Int64 | npt.NDArray[np.object_]
"""Item ids as an array: integers, or objects of type str."""

ARRAYS: dict[str, npt.DTypeLike] = {
    "offsets": np.int64,
    "items": np.int32,
    "times": np.int64,
    "user_ids": np.int64,
    "item_ids": np.int64,
}
"""The arrays of :class:`Interactions`, one file each, and their types."""
SPLIT = "split.npy"
_REMEDY = "prepare the dataset again"


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """Interactions sorted by user, then time, with dense item numbers 1..N (0 is padding), and keys of users and items.

    If ids are 64-bit integers, keys are the ids. If ids are text, keys are the numbers 1, 2, ... in ascending order of
    the ids, which are in :attr:`microlens.data.dataset.Dataset.user_ids` and ``item_ids``.

    Shapes, with U users, N items and E events: ``offsets`` (U+1,) int64, the events of user u being
    ``offsets[u]:offsets[u+1]``; ``items`` (E,) int32; ``times`` (E,) int64, milliseconds or, for a release without
    timestamps, the position in the user's sequence; ``user_ids`` (U,) and ``item_ids`` (N+1,) int64, both ascending,
    with ``item_ids[0]`` unused. If the dataset came with a split, ``split`` (E,) int8 is 0 for train, 1 for validation
    and 2 for test, else None. Arrays opened from disk are memory-mapped and read-only.
    """

    offsets: Int64
    items: Int32
    times: Int64
    user_ids: Int64
    item_ids: Int64
    split: Labels | None = None

    @property
    def num_users(self) -> int:
        """U, the number of users."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """N, the number of items, without padding."""
        return len(self.item_ids) - 1

    @property
    def num_events(self) -> int:
        """E, the number of interactions."""
        return len(self.items)

    @property
    def has_times(self) -> bool:
        """True if ``times`` are those of the release, False if they are positions in the users' sequences."""
        positions = np.arange(self.num_events) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        return not np.array_equal(self.times, positions)

    @classmethod
    def from_pairs(cls, pairs: Pairs) -> Self:
        """Build from pairs, with dense user and item numbers in ascending order of their keys."""
        users, items, times = (pairs.events[name].to_numpy() for name in ("user", "item", "timestamp"))
        starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))  # not np.diff: may overflow
        item_ids, numbers = np.unique(items, return_inverse=True)
        return cls(
            offsets=np.append(starts, len(users)).astype(np.int64),
            items=(numbers + 1).astype(np.int32),
            times=times.astype(np.int64),
            user_ids=users[starts].astype(np.int64),
            item_ids=np.concatenate([[0], item_ids]).astype(np.int64),
        )

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Memory-map the arrays written by :meth:`write`.

        Raises:
            InputError: an array is missing or damaged, or the arrays contradict each other.
        """
        paths = {name: folder / f"{name}.npy" for name in ARRAYS}
        opened = cls(
            **{name: open_array(paths[name], ndim=1, dtype=dtype, remedy=_REMEDY) for name, dtype in ARRAYS.items()},
            split=_open_split(folder / SPLIT),
        )
        for name, fault in opened._faults():
            raise InputError(f"{folder / name}.npy is damaged: {fault}; {_REMEDY}.")
        return opened

    def _faults(self) -> Iterator[tuple[str, str]]:
        """Yield the name and fault of each array that contradicts itself or another; reads all arrays once."""
        if len(self.offsets) != self.num_users + 1:
            yield "offsets", f"{len(self.offsets) - 1:,} users, but {self.num_users:,} in user_ids.npy"
        if self.offsets[0] != 0 or self.offsets[-1] != self.num_events or np.any(np.diff(self.offsets) < 1):
            yield "offsets", f"not ascending from 0 to the {self.num_events:,} interactions of items.npy"
        if len(self.times) != self.num_events:
            yield "times", f"{len(self.times):,} times for the {self.num_events:,} interactions of items.npy"
        if self.items.min() < 1 or self.items.max() > self.num_items:
            yield "items", f"an item number is not among the {self.num_items:,} of item_ids.npy"
        if self.split is not None and not self._is_split(self.split):
            yield "split", f"not 0, 1 or 2 for each of the {self.num_events:,} interactions of items.npy"
        for name, ids in (("user_ids", self.user_ids), ("item_ids", self.item_ids[1:])):
            if np.any(ids[1:] <= ids[:-1]):
                yield name, "ids are not ascending"

    def _is_split(self, split: Labels) -> bool:
        return len(split) == self.num_events and bool(np.isin(split, (0, 1, 2)).all())

    def write(self, folder: Path) -> None:
        """Write one ``.npy`` file per array into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        if self.split is not None:
            np.save(folder / SPLIT, self.split)


def _open_split(path: Path) -> Labels | None:
    return open_array(path, ndim=1, dtype=np.int8, remedy=_REMEDY) if path.is_file() else None
