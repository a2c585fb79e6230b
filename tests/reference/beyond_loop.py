"""Metrics beyond accuracy, item by item and pair by pair."""

import math
from itertools import combinations

import numpy as np


def gini_loop(counts: list[int]) -> float:
    """Half the mean absolute difference of all pairs, over the mean."""
    mean = sum(counts) / len(counts)
    apart = sum(abs(one - other) for one in counts for other in counts) / len(counts) ** 2
    return apart / (2 * mean)


def beyond_loop(
    lists: list[list[int]], train: list[list[int]], num_items: int, vectors: np.ndarray
) -> dict[str, float]:
    """Coverage, novelty, average popularity, Gini index and diversity of lists (0 where there is no item)."""
    shown = [item for items in lists for item in items if item]
    count = {item: sum(items.count(item) for items in train) for item in range(1, num_items + 1)}
    distances = []
    for items in lists:
        real = [item for item in items if item]
        pairs = [1 - cosine(vectors[one], vectors[other]) for one, other in combinations(real, 2)]
        if pairs:
            distances.append(sum(pairs) / len(pairs))
    return {
        "coverage": len(set(shown)) / num_items,
        "novelty": sum(-math.log2(max(1, count[item]) / len(train)) for item in shown) / len(shown),
        "average_popularity": sum(count[item] for item in shown) / len(shown),
        "gini": gini_loop([shown.count(item) for item in range(1, num_items + 1)]),
        "diversity": sum(distances) / len(distances),
    }


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of two vectors, 0 where one is zero."""
    norms = math.sqrt(float(one @ one)) * math.sqrt(float(other @ other))
    return float(one @ other) / norms if norms else 0.0
