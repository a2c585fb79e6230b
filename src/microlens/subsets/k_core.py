"""Filtering interactions by how often their users and items occur."""

import numpy as np
import numpy.typing as npt

Kept = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


def k_core(users: Numbers, items: Numbers, user_core: int, item_core: int) -> tuple[Kept, int]:
    """Mark the interactions of the largest subset in which every user and every item has enough of them.

    In each round, users with fewer than ``user_core`` interactions are removed, then items with fewer than
    ``item_core``, until nothing is removed. The result does not depend on this order.

    Args:
        users: number of the user of each interaction, from 0: (E,).
        items: number of the item: (E,).
        user_core: interactions that a user needs; 1 for no condition.
        item_core: interactions that an item needs.

    Returns:
        True for the interactions that are kept, (E,), and the number of rounds that removed some.
    """
    left = np.arange(len(users))
    rounds = 0
    while True:
        before = len(left)
        for numbers, least in ((users, user_core), (items, item_core)):
            left = left[frequent(numbers[left], least)]
        if len(left) == before:
            break
        rounds += 1
    kept = np.zeros(len(users), bool)
    kept[left] = True
    return kept, rounds


def frequent(numbers: Numbers, least: int) -> Kept:
    """Mark the entries (E,) whose number occurs at least ``least`` times."""
    return np.asarray((np.bincount(numbers) >= least)[numbers])
