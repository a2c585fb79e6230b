"""Which interactions are held out: the ways to part a set of interactions into train, validation and test."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from microlens.data.interactions import Interactions
from microlens.data.protocol import Holdout
from microlens.errors import InputError

TRAIN, VALID, TEST = 0, 1, 2
SHARE = 0.1  # of the interactions, or the items, for each of the two parts that are held out
Labels = npt.NDArray[np.int8]


def leave_one_out(interactions: Interactions, seed: int) -> Labels:
    """The last item of each user for test, the one before it for validation (E,)."""
    labels = np.zeros(interactions.num_events, np.int8)
    labels[interactions.offsets[1:] - 1] = TEST
    labels[interactions.offsets[1:] - 2] = VALID
    return labels


def random_share(interactions: Interactions, seed: int) -> Labels:
    """A tenth of each user's items, at least one, at random for test, as many for validation (E,).

    That is 8:1:1 as RecBole and MMRec have it; histories are what is left, so models see what came after a target.
    """
    lengths = np.diff(interactions.offsets)
    users = np.repeat(np.arange(len(lengths)), lengths)
    held = np.maximum(1, (SHARE * lengths).astype(np.int64))[users]
    drawn = np.random.default_rng(seed).random(interactions.num_events)
    order = np.lexsort((drawn, users))  # by user, at random within
    index = np.empty(len(order), np.int64)
    index[order] = np.arange(len(order)) - interactions.offsets[users]
    return np.where(index < held, TEST, np.where(index < 2 * held, VALID, TRAIN)).astype(np.int8)


def global_time(interactions: Interactions, seed: int) -> Labels:
    """The last tenth of all interactions by time for test, the tenth before them for validation (E,).

    Interactions of one moment stay together, in the later part.

    Raises:
        InputError: the release has no timestamps, or all are one.
    """
    times = np.asarray(interactions.times)
    positions = np.arange(len(times)) - np.repeat(interactions.offsets[:-1], np.diff(interactions.offsets))
    if np.array_equal(times, positions):
        raise InputError(
            'protocol.split is "global-time", but the release has no timestamps: prepare it from a pairs file '
            "NAME_pairs.csv with the columns user,item,timestamp."
        )
    ordered = np.sort(times)
    valid_from, test_from = (ordered[int(len(ordered) * (1 - share * SHARE))] for share in (2, 1))
    if not ordered[0] < valid_from < test_from:
        raise InputError('protocol.split is "global-time", but too many interactions have one timestamp to part them.')
    return np.searchsorted([valid_from, test_from], times, side="right").astype(np.int8)


def cold_items(interactions: Interactions, seed: int) -> Labels:
    """All interactions with a tenth of the items, at random, for test, those with another tenth for validation (E,)."""
    items = np.unique(interactions.items)
    items = np.random.default_rng(seed).permutation(items)
    held = max(1, int(SHARE * len(items)))
    of_item = np.zeros(interactions.num_items + 1, np.int8)
    of_item[items[:held]] = TEST
    of_item[items[held : 2 * held]] = VALID
    return np.asarray(of_item[interactions.items])


HOLDOUTS: dict[Holdout, Callable[[Interactions, int], Labels]] = {
    "leave-one-out": leave_one_out,
    "random": random_share,
    "global-time": global_time,
    "cold-items": cold_items,
}
"""Ways of holding out by name: labels of the interactions (E,), :data:`TRAIN`, :data:`VALID` or :data:`TEST`."""
ONE_AFTER_ANOTHER: tuple[Holdout, ...] = ("leave-one-out", "global-time")
"""Those under which validation items come before test items, so that they are known at test."""
