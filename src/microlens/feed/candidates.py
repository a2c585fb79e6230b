"""The items that may be chosen for a person: what anybody may be shown, without what the person has had.

Nothing of the length of the catalogue is copied or searched for a person: what all people have in common is computed
once, and the items of the person are left out of its draws.
"""

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import numpy.typing as npt

from microlens.data.interactions import Int32, Int64
from microlens.feed.item_counts import ItemCounts

Bools = npt.NDArray[np.bool_]


class Allowed:
    """The items that may be shown to anybody.

    Args:
        mask: (C,) whether each item may be shown, for padding False.
        counts: counts of the items, at least of these.
    """

    def __init__(self, mask: Bools, counts: ItemCounts) -> None:
        self.mask = mask
        self._counts = counts
        self._new: tuple[int, Int32] | None = None

    @cached_property
    def numbers(self) -> Int32:
        """The items, ascending."""
        return np.flatnonzero(self.mask).astype(np.int32)

    @cached_property
    def weights(self) -> Int64:
        """The sum of the interactions, plus one each, of the items up to each one: (C,)."""
        interactions = self._counts.interactions[: len(self.mask)]
        return np.where(self.mask, interactions + 1, 0).cumsum(dtype=np.int64)

    @property
    def new(self) -> Int32:
        """The items that have few interactions and exposures, ascending."""
        known, version = self._new, self._counts.version
        if known is None or known[0] != version:
            is_new = self._counts.is_new[: len(self.mask)]
            known = self._new = version, np.flatnonzero(self.mask & is_new).astype(np.int32)
        return known[1]


class Candidates:
    """The allowed items without some.

    Args:
        allowed: the items that may be shown to anybody.
        without: items that are left out, whether or not they are allowed.
    """

    def __init__(self, allowed: Allowed, without: Iterable[int] = ()) -> None:
        self.allowed, self._without = allowed, frozenset(without)

    def __contains__(self, item: int) -> bool:
        mask = self.allowed.mask
        return item < len(mask) and bool(mask[item]) and item not in self._without

    def __bool__(self) -> bool:
        """True if there is any."""
        return len(self.all) > 0

    def minus(self, items: Iterable[int]) -> "Candidates":
        """These without some more."""
        return Candidates(self.allowed, self._without.union(items))

    @property
    def mask(self) -> Bools:
        """Whether each item is a candidate: (C,)."""
        mask = self.allowed.mask.copy()
        mask[self._left_out] = False
        return mask

    @cached_property
    def _left_out(self) -> Int64:
        items = np.sort(np.fromiter(self._without, np.int64, len(self._without)))
        return items[items < len(self.allowed.mask)]

    @cached_property
    def all(self) -> "Remaining":
        """The candidates."""
        return Remaining(self.allowed.numbers, self._left_out)

    @cached_property
    def new(self) -> "Remaining":
        """The new ones."""
        return Remaining(self.allowed.new, self._left_out)

    def popular(self, rng: np.random.Generator) -> int:
        """Draw one of the candidates in proportion to its interactions plus one."""
        drawn, weights, items = int(rng.integers(self._total)), self.allowed.weights, self._left_out
        own = self._weights_of(items)
        until = own.cumsum()
        # Where the weights of the items that are left out would have been, had only the earlier ones been left out.
        skipped = np.searchsorted(weights[items] - until, drawn, side="right")
        drawn += int(until[skipped - 1]) if skipped else 0
        return int(np.searchsorted(weights, drawn, side="right"))

    def popularity(self, item: int) -> float:
        """The probability with which :meth:`popular` draws an item."""
        return int(self._weights_of(np.array([item]))[0]) / self._total if item in self else 0.0

    @cached_property
    def _total(self) -> int:
        return int(self.allowed.weights[-1]) - int(self._weights_of(self._left_out).sum())

    def _weights_of(self, items: Int64) -> Int64:
        """The weights of items (K,), 0 for those that are not allowed; padding, the first one, never is."""
        return self.allowed.weights[items] - self.allowed.weights[items - 1] * (items > 0)


class Remaining:
    """Ascending numbers without some of them.

    Args:
        numbers: (K,) numbers, ascending.
        without: (H,) numbers that are left out, ascending, which need not be among them.
    """

    def __init__(self, numbers: Int32, without: Int64) -> None:
        self._numbers = numbers
        places = np.searchsorted(numbers, without.astype(np.int32))  # of another type, it would copy the numbers
        inside = places < len(numbers)
        self._places = places[inside][numbers[places[inside]] == without[inside]]

    def __len__(self) -> int:
        return len(self._numbers) - len(self._places)

    def __getitem__(self, index: int) -> int:
        """The number at a place among those that remain."""
        skipped = np.searchsorted(self._places - np.arange(len(self._places)), index, side="right")
        return int(self._numbers[index + skipped])

    def __contains__(self, number: int) -> bool:
        place = int(np.searchsorted(self._numbers, np.int32(number)))
        return place < len(self._numbers) and self._numbers[place] == number and place not in self._places

    def array(self) -> Int32:
        """The numbers that remain."""
        return np.delete(self._numbers, self._places)
