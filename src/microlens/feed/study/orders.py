"""Orders of models, counterbalanced over the participants of a study."""

from collections.abc import Sequence

import numpy as np


def balanced_orders(count: int) -> list[list[int]]:
    """Orders of ``count`` things in which each has each place equally often, and follows each other equally often.

    There are ``count`` of them, or twice as many if ``count`` is odd and more than 1.

    Source: Williams, Experimental designs balanced for the estimation of residual effects of treatments (1949).
    """
    first = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(count)]
    orders = [[(thing + shift) % count for thing in first] for shift in range(count)]
    return orders if count == 1 or count % 2 == 0 else [*orders, *(order[::-1] for order in orders)]


def order_of(number: int, arms: Sequence[str], seed: int) -> list[str]:
    """The order in which a participant sees the models.

    Participants are balanced in the order of their numbers: each run of as many as there are balanced orders has every
    order once, in a sequence that the seed draws.

    Args:
        number: number of the participant, from 1.
        arms: names of the models.
        seed: seed of the study.
    """
    orders = balanced_orders(len(arms))
    block, place = divmod(number - 1, len(orders))
    drawn = np.random.default_rng([seed, block]).permutation(len(orders))[place]
    return [sorted(arms)[index] for index in orders[drawn]]
