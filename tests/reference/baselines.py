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


def fease_loop(
    train: Lists,
    history: Sequence[int],
    features: Sequence[npt.NDArray[np.float64]],
    *,
    regularization: float,
    features_weight: float,
    prior_weight: float,
    decay: float,
) -> list[float]:
    """The scores of FEASE, whose terms are stacked as rows of one least-squares problem for each item.

    ``features`` are matrices (N, F), one for each modality. Stacking is the collective EASE of Jeunen et al. 2020; the
    prior is that of Cui et al. 2025.
    """
    num_items = len(features[0])
    liked = np.zeros((len(train), num_items))
    for user, items in enumerate(train):
        liked[user, [item - 1 for item in items]] = 1
    unit = [np.array([row / np.sqrt(sum(row * row)) for row in matrix]) for matrix in features]
    similar = sum(matrix @ matrix.T for matrix in unit) / len(unit)
    sides = [np.sqrt(features_weight / len(unit)) * matrix.T for matrix in unit]
    scores = np.zeros(num_items + 1)
    for item in range(num_items):
        others = [other for other in range(num_items) if other != item]
        left = [liked, *sides, np.sqrt(regularization) * np.eye(num_items), np.sqrt(prior_weight) * np.eye(num_items)]
        right = [
            liked[:, item],
            *(side[:, item] for side in sides),
            np.zeros(num_items),
            np.sqrt(prior_weight) * similar[:, item],
        ]
        rows, wanted = np.concatenate(left), np.concatenate(right)
        weights = np.zeros(num_items)
        weights[others] = np.linalg.lstsq(rows[:, others], wanted, rcond=None)[0]
        scores[item + 1] = sum(decay**age * weights[of - 1] for age, of in enumerate(reversed(history)))
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
