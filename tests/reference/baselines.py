"""Fitted recommenders, pair by pair, in Python floats.

``train`` is each user's train items, oldest first; ``history`` what is read, without padding. Scores are a list of
N + 1, the first of no meaning.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Lists = Sequence[Sequence[int]]


def train_counts(train: Lists, num_items: int) -> list[int]:
    """How often each item occurs."""
    counts = [0] * (num_items + 1)
    for items in train:
        for item in items:
            counts[item] += 1
    return counts


def markov_loop(train: Lists, history: Sequence[int], num_items: int) -> list[float]:
    """Times that an item came directly after the last one, and popularity as a fraction of one."""
    counts = train_counts(train, num_items)
    scores = [count / (max(counts) + 1) for count in counts]
    for items in train:
        for first, second in pairwise(items):
            if history and first == history[-1]:
                scores[second] += 1
    return scores


def co_visitation_loop(
    train: Lists,
    history: Sequence[int],
    num_items: int,
    *,
    gap_decay: float,
    source_power: float,
    target_power: float,
    recency_decay: float,
    last: int,
) -> list[float]:
    """Decayed and scaled counts of what came after each of the last items."""
    counts = train_counts(train, num_items)
    scores = [1e-6 * count / max(counts) for count in counts]
    for age, source in enumerate(list(reversed(history))[:last]):
        for items in train:
            for place, item in enumerate(items):
                if item != source:
                    continue
                for later in range(place + 1, len(items)):
                    target = items[later]
                    weight = gap_decay ** (later - place - 1)
                    weight /= counts[source] ** source_power * counts[target] ** target_power
                    scores[target] += recency_decay**age * weight
    return scores


def ease_loop(
    train: Lists, history: Sequence[int], num_items: int, *, regularization: float, decay: float
) -> list[float]:
    """Each item by its own ridge regression on all the others, as the closed form solves it for all at once."""
    liked = np.zeros((len(train), num_items + 1))
    for user, items in enumerate(train):
        liked[user, list(items)] = 1
    weights = np.zeros((num_items + 1, num_items + 1))
    for item in range(1, num_items + 1):
        others = [other for other in range(1, num_items + 1) if other != item]
        left = liked[:, others]
        gram = left.T @ left + regularization * np.eye(len(others))
        weights[others, item] = np.linalg.solve(gram, left.T @ liked[:, item])
    scores = np.zeros(num_items + 1)
    for age, item in enumerate(reversed(history)):
        scores += decay**age * weights[item]
    return list(map(float, scores))


def content_knn_loop(features: npt.NDArray[np.float64], history: Sequence[int], *, decay: float) -> list[float]:
    """The cosine of each item's features (N, E) with the weighted mean of the history's unit vectors."""
    profile = np.zeros(features.shape[1])
    for age, item in enumerate(reversed(history)):
        profile += decay**age * features[item - 1] / np.linalg.norm(features[item - 1])
    scores = [0.0]
    for vector in features:
        lengths = float(np.linalg.norm(vector) * np.linalg.norm(profile))
        scores.append(float(vector @ profile) / lengths if lengths else 0.0)
    return scores


def als_loop(
    factors: npt.NDArray[np.float64], history: Sequence[int], *, regularization: float, alpha: float
) -> list[float]:
    """The user's least squares over all items (N, D), each weighed by its confidence, and the products with them."""
    left, right = regularization * np.eye(factors.shape[1]), np.zeros(factors.shape[1])
    for item, vector in enumerate(factors, 1):
        confidence = alpha if item in history else 1.0
        left += confidence * np.outer(vector, vector)
        right += confidence * vector * (item in history)
    return [0.0, *map(float, factors @ np.linalg.solve(left, right))]
