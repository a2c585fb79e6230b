"""Hold-out methods: labelling interactions as train, validation or test."""

from collections.abc import Callable

import numpy as np

from microlens.data.interactions import Interactions, Labels
from microlens.data.protocol import Holdout
from microlens.errors import InputError
from microlens.release.given_split import TEST, TRAIN, VALID

SHARE = 0.1  # share of the interactions or items in each of the two held-out parts


def leave_one_out(interactions: Interactions, seed: int) -> Labels:
    """Label the last item of each user as test, the one before it as validation: (E,)."""
    labels = np.zeros(interactions.num_events, np.int8)
    labels[interactions.offsets[1:] - 1] = TEST
    labels[interactions.offsets[1:] - 2] = VALID
    return labels


def random_share(interactions: Interactions, seed: int) -> Labels:
    """Label a random tenth of each user's items, at least one, as test, and as many as validation: (E,).

    This is the 8:1:1 split of RecBole and MMRec. Histories are the remaining items, so models see items from after a
    target.
    """
    lengths = np.diff(interactions.offsets)
    users = np.repeat(np.arange(len(lengths)), lengths)
    held = np.maximum(1, (SHARE * lengths).astype(np.int64))[users]
    drawn = np.random.default_rng(seed).random(interactions.num_events)
    order = np.lexsort((drawn, users))  # by user, in random order within a user
    index = np.empty(len(order), np.int64)
    index[order] = np.arange(len(order)) - interactions.offsets[users]
    return np.where(index < held, TEST, np.where(index < 2 * held, VALID, TRAIN)).astype(np.int8)


def global_time(interactions: Interactions, seed: int) -> Labels:
    """Label the last tenth of all interactions by time as test, the tenth before them as validation: (E,).

    Interactions with equal timestamps stay together, in the later part.

    Raises:
        InputError: the dataset has no timestamps, or too many are equal.
    """
    if not interactions.has_times:
        raise InputError(
            'protocol.split is "global-time", but the release has no timestamps: prepare it from a pairs file '
            "NAME_pairs.csv with the columns user,item,timestamp."
        )
    times = np.asarray(interactions.times)
    ordered = np.sort(times)
    valid_from, test_from = (ordered[int(len(ordered) * (1 - share * SHARE))] for share in (2, 1))
    if not ordered[0] < valid_from < test_from:
        raise InputError('protocol.split is "global-time", but too many interactions share a timestamp to split them.')
    return np.searchsorted([valid_from, test_from], times, side="right").astype(np.int8)


def cold_items(interactions: Interactions, seed: int) -> Labels:
    """Label all interactions with a random tenth of the items as test, and with another tenth as validation: (E,)."""
    items = np.unique(interactions.items)
    items = np.random.default_rng(seed).permutation(items)
    held = max(1, int(SHARE * len(items)))
    of_item = np.zeros(interactions.num_items + 1, np.int8)
    of_item[items[:held]] = TEST
    of_item[items[held : 2 * held]] = VALID
    return np.asarray(of_item[interactions.items])


def given(interactions: Interactions, seed: int) -> Labels:
    """The labels of the split that the dataset came with: (E,).

    As in MMRec, histories and models read the train part, at test, too.

    Raises:
        InputError: the dataset came without a split.
    """
    if interactions.split is None:
        raise InputError(
            'protocol.split is "given", but the dataset came without a split: prepare it from a release with a file '
            "NAME_split.csv, as microlens data convert writes it of MMRec's and RecBole's splits."
        )
    return interactions.split


HOLDOUTS: dict[Holdout, Callable[[Interactions, int], Labels]] = {
    "leave-one-out": leave_one_out,
    "random": random_share,
    "global-time": global_time,
    "cold-items": cold_items,
    "given": given,
}
"""Hold-out methods by name; they label the interactions (E,) :data:`TRAIN`, :data:`VALID` or :data:`TEST`."""
