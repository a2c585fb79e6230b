"""Metrics beyond accuracy: coverage, novelty, popularity, inequality and diversity of recommendations."""

import numpy as np
import numpy.typing as npt
import polars as pl

from microlens.data.dataset import Dataset
from microlens.data.interactions import Int64
from microlens.data.split import Part, Split

CUTOFF = 10
ACTIVITY_GROUPS = 5
MOST_TAGS = 10
USERS_AT_ONCE = 1024
Masks = dict[str, npt.NDArray[np.bool_]]


def beyond_accuracy(lists: Int64, split: Split, vectors: npt.NDArray[np.float32] | None = None) -> dict[str, float]:
    """Metrics of recommended lists that do not depend on targets.

    ``coverage@K`` is the fraction of the N candidates that appear in any list. ``novelty@K`` is the mean of
    -log2 p(i), where p(i) is the fraction of users with item i in their training set (Vargas and Castells 2011); items
    without users count as one. ``average_popularity@K`` is the mean training count of the recommended items. ``gini@K``
    is the Gini index of how often each candidate is recommended: 0 if all equally often, 1 - 1 / N if only one is.
    ``diversity@K`` is the mean over users of 1 minus the cosine similarity of the content of two items of a list
    (Ziegler et al. 2005), over all pairs; users with fewer than two items are left out.

    Args:
        lists: (U, K) item numbers, 0 where there is none.
        split: the split that the items belong to.
        vectors: (N+1, D) content vector of each item number, for the diversity, which is left out if None.
    """
    cutoff, shown = lists.shape[1], lists[lists > 0]
    counts = np.bincount(shown, minlength=split.num_items + 1)[1:]
    popularity = split.train_counts[shown]
    found = {
        "coverage": float(np.mean(counts > 0)),
        "novelty": float(np.mean(-np.log2(np.maximum(popularity, 1) / split.num_users))),
        "average_popularity": float(np.mean(popularity)),
        "gini": gini(counts),
    }
    if vectors is not None:
        found["diversity"] = _diversity(lists, vectors)
    return {f"{name}@{cutoff}": value for name, value in found.items()}


def gini(counts: npt.NDArray[np.integer]) -> float:
    """The Gini index of ``counts`` (N,): half their mean absolute difference divided by their mean; 0 if all are 0."""
    if not counts.sum():
        return 0.0
    ordered = np.sort(counts).astype(np.float64)
    number = len(ordered)
    return float((2 * np.arange(1, number + 1) - number - 1) @ ordered / (number * ordered.sum()))


def _diversity(lists: Int64, vectors: npt.NDArray[np.float32]) -> float:
    """Computed by |sum of unit vectors|^2 = n + 2 * (sum of cosines of pairs), without a loop over pairs."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    units[0] = 0
    total, users = 0.0, 0
    for start in range(0, len(lists), USERS_AT_ONCE):
        chunk = lists[start : start + USERS_AT_ONCE]
        numbers = (chunk > 0).sum(1)
        chunk, numbers = chunk[numbers > 1], numbers[numbers > 1]
        of_items = units[chunk].astype(np.float64)
        own = (of_items**2).sum((1, 2))  # n, without items that have no content
        twice_cosines = (of_items.sum(1) ** 2).sum(1) - own
        total += float(np.sum(1 - twice_cosines / (numbers * (numbers - 1))))
        users += len(chunk)
    return total / users if users else 0.0


def activity_groups(split: Split, part: Part) -> Masks:
    """Group the targets (Q,) of ``part`` by the history length of their user, in up to five groups of similar size.

    Histories of equal length stay together, so there are fewer groups if few lengths are common; the names state the
    lengths.
    """
    lengths = split.history_lengths(part)[split.target_users(part)]
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, ACTIVITY_GROUPS + 1)[1:], method="higher"))
    lows = [int(lengths.min()), *(int(edge) + 1 for edge in edges[:-1])]
    return {
        f"{low} items" if low == high else f"{low}-{int(high)} items": (lengths >= low) & (lengths <= high)
        for low, high in zip(lows, edges, strict=True)
    }


def tag_groups(split: Split, dataset: Dataset, part: Part, most: int = MOST_TAGS) -> Masks:
    """Group the targets (Q,) of ``part`` by tag: the most frequent tags, and all others; empty without tags."""
    tags = dataset.items["tag"].fill_null("").to_numpy()[split.items_kept[1:] - 1]
    of_target = tags[split.targets(part) - 1]
    names = pl.Series(of_target).value_counts(sort=True, name="count").rows()
    frequent = sorted(((count, name) for name, count in names if name), key=lambda pair: (-pair[0], pair[1]))[:most]
    if not frequent:
        return {}
    masks = {f"tag {name}": np.asarray(of_target == name) for _, name in frequent}
    return masks | {"other tags": ~np.any(list(masks.values()), axis=0)}
