"""The synthetic world: items with attributes, users with tastes, and histories drawn from both."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microlens.errors import InputError
from microlens.release.synthetic_media import ATTRIBUTES, COLOURS, Look
from microlens.seeds import checked_seed

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

WEIGHTS: dict[str, float] = {"colour": 3.5, "backdrop": 3.0, "shape": 0.8, "motion": 0.8, "pitch": 0.8}
"""The utility of an item for a user that each matching attribute adds."""

LEAST_USERS = 10
LEAST_ITEMS = 12
NEW_ITEMS = 0.15
ENDS_WITH_NEW = 0.22
ENDS_WITH_TWO_NEW = 0.03
CHANGES_COLOUR = 0.3
POPULARITY_EXPONENT = 0.5
LENGTH_LIMITS = (5, 25)
MEAN_LENGTH = 9.5
OPENING_MS = 1_672_531_200_000
LAUNCH_MS = OPENING_MS + 180 * 86_400_000
CLOSING_MS = LAUNCH_MS + 30 * 86_400_000

_CELLS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class World:
    """The ground truth of a synthetic release: N items, B users, T interactions; ids are index + 1.

    `attributes[name]` (N,) and `favourites[name]` (B,) are indices into `ATTRIBUTES[name]`; `earlier_colour` (B,) is
    the favourite in the first half of a history. `popularity` (N,) sums to 1 and is 0 for the items in `is_new` (N,).
    `user`, `item` (indices) and `time` (ms) are (T,), sorted by user, then time.
    """

    seed: int
    attributes: dict[str, Ints]
    favourites: dict[str, Ints]
    earlier_colour: Ints
    popularity: Floats
    is_new: Bools
    user: Ints
    item: Ints
    time: Ints

    def utility(self, names: Iterable[str] = tuple(ATTRIBUTES)) -> Floats:
        """The utility of every item for every user at the end of the history, by the attributes `names`: (B, N)."""
        return _utility(self.attributes, {name: self.favourites[name] for name in names})

    def look(self, item: int) -> Look:
        """The look and sound of the item at an index."""
        names = {name: ATTRIBUTES[name][values[item]] for name, values in self.attributes.items()}
        return Look(**names, seed=(self.seed, item + 1))


def _utility(attributes: dict[str, Ints], favourites: dict[str, Ints]) -> Floats:
    users, items = len(next(iter(favourites.values()))), len(next(iter(attributes.values())))
    total = np.zeros((users, items), dtype=np.float32)
    for name, wanted in favourites.items():
        total += np.float32(WEIGHTS[name]) * (wanted[:, None] == attributes[name])
    return total


def build_world(users: int = 2000, items: int = 400, seed: int = 0) -> World:
    """Draw items, preferences and interactions; writes nothing.

    Raises:
        InputError: there are too few users or items, or ``seed`` is no seed.
    """
    check_minimum("users", users, LEAST_USERS)
    check_minimum("items", items, LEAST_ITEMS)
    seed = checked_seed(seed)
    rng = np.random.default_rng([seed])
    is_new = np.zeros(items, dtype=np.bool_)
    is_new[rng.choice(items, max(2, round(NEW_ITEMS * items)), replace=False)] = True
    attributes = _draw_attributes(rng, is_new)
    favourites = {name: rng.integers(len(values), size=users) for name, values in ATTRIBUTES.items()}
    other_colour = (favourites["colour"] + rng.integers(1, len(COLOURS), users)) % len(COLOURS)
    earlier_colour = np.where(rng.random(users) < CHANGES_COLOUR, other_colour, favourites["colour"])
    popularity = np.zeros(items, dtype=np.float32)
    popularity[~is_new] = rng.permutation(np.arange(1, (~is_new).sum() + 1.0)) ** -POPULARITY_EXPONENT
    popularity /= popularity.sum()

    lengths = _draw_lengths(rng, users, warm=int((~is_new).sum()))
    history = np.zeros((users, lengths.max()), dtype=np.int64)
    block = max(1, _CELLS_AT_ONCE // items)
    for start in range(0, users, block):
        part = slice(start, start + block)
        late = _utility(attributes, {name: values[part] for name, values in favourites.items()})
        early = late + _utility(attributes, {"colour": earlier_colour[part]})
        early -= _utility(attributes, {"colour": favourites["colour"][part]})
        drawn = _draw_histories(rng, early, late, popularity, lengths[part])
        history[part, : drawn.shape[1]] = drawn
    time = _draw_times(rng, lengths, is_new[history])
    user, position = np.nonzero(np.arange(history.shape[1]) < lengths[:, None])
    return World(
        seed=seed,
        attributes=attributes,
        favourites=favourites,
        earlier_colour=earlier_colour,
        popularity=popularity,
        is_new=is_new,
        user=user,
        item=history[user, position],
        time=time[user, position],
    )


def check_minimum(what: str, given: float, least: int) -> None:
    """Raise an :class:`InputError` if a number is below the minimum of a synthetic release."""
    if given < least:
        raise InputError(f"{what} is {given}; a synthetic release accepts {least} or more.")


def _draw_attributes(rng: np.random.Generator, is_new: Bools) -> dict[str, Ints]:
    """Distribute combinations of values evenly over old and new items, so that every preference has matching items."""
    attributes = {name: np.empty(len(is_new), dtype=np.int64) for name in ATTRIBUTES}
    for group in (is_new, ~is_new):
        for names in (("colour", "backdrop"), ("shape", "motion", "pitch")):
            sizes = tuple(len(ATTRIBUTES[name]) for name in names)
            dealt = np.unravel_index(_deal(rng, int(group.sum()), math.prod(sizes)), sizes)
            for name, values in zip(names, dealt, strict=True):
                attributes[name][group] = values
    return attributes


def _deal(rng: np.random.Generator, count: int, values: int) -> Ints:
    rounds = np.tile(np.arange(values), (-(-count // values), 1))
    dealt: Ints = rng.permuted(rounds, axis=1).ravel()[:count]
    return dealt


def _draw_lengths(rng: np.random.Generator, users: int, warm: int) -> Ints:
    shortest, longest = LENGTH_LIMITS
    lengths = shortest - 1 + rng.geometric(1 / (MEAN_LENGTH - shortest + 1), users)
    return np.minimum(lengths, max(shortest, min(longest, warm // 2)))


def _draw_histories(rng: np.random.Generator, early: Floats, late: Floats, popularity: Floats, lengths: Ints) -> Ints:
    """Draw items `(B, max length)`: by `early` utility up to the middle, then by `late`; new items at the end."""
    users, longest = np.arange(len(lengths)), int(lengths.max())
    middle = lengths // 2
    with np.errstate(divide="ignore"):
        log_popularity = np.log(popularity)
    position = np.arange(longest)
    before = position < middle[:, None]
    first = _draw_without_repetition(rng, early + log_popularity, longest)
    keys = late + log_popularity
    rows, columns = np.nonzero(before)
    keys[rows, first[rows, columns]] = -np.inf
    second = _draw_without_repetition(rng, keys, longest)
    history = np.where(before, first, np.take_along_axis(second, abs(position - middle[:, None]), axis=1))
    chosen = _draw_without_repetition(rng, np.where(popularity == 0, late, -np.inf), 2)
    fate = rng.random(len(lengths))
    for back, share in ((1, ENDS_WITH_NEW), (2, ENDS_WITH_TWO_NEW)):
        tempted = users[fate < share]
        history[tempted, lengths[tempted] - back] = chosen[tempted, back - 1]
    return history


def _draw_without_repetition(rng: np.random.Generator, log_weights: Floats, count: int) -> Ints:
    """Sample from softmax(log_weights) without replacement by the Gumbel top-k trick: `(B, count)`."""
    keys = log_weights + rng.gumbel(size=log_weights.shape).astype(np.float32)
    top = np.argpartition(-keys, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(keys, top, axis=1), axis=1)
    return np.take_along_axis(top, order, axis=1)


def _draw_times(rng: np.random.Generator, lengths: Ints, is_new: Bools) -> Ints:
    """Ascending times in ms, `(B, max length)`: the last interaction and all new items come after the launch."""
    position = np.arange(is_new.shape[1])
    share = rng.random(is_new.shape)
    share[position >= lengths[:, None]] = 1
    share.sort(axis=1)
    launched = (position >= lengths[:, None] - 1) | is_new
    start = np.where(launched, LAUNCH_MS, OPENING_MS)
    end = np.where(launched, CLOSING_MS, LAUNCH_MS) - is_new.shape[1]
    # Adding the position makes the times of a user distinct.
    times: Ints = (start + share * (end - start)).astype(np.int64) + position
    return times
