"""What recommendations are like besides right: how much of the catalogue they show, how new, varied and popular."""

import numpy as np
import numpy.typing as npt
import polars as pl

from microlens.data.dataset import Dataset
from microlens.data.interactions import Int64
from microlens.data.split import Part, Split
from microlens.evaluation.ranking import USERS_AT_ONCE

CUTOFF = 10
ACTIVITY_GROUPS = 5
MOST_TAGS = 10
Masks = dict[str, npt.NDArray[np.bool_]]


def beyond_accuracy(lists: Int64, split: Split, vectors: npt.NDArray[np.float32] | None = None) -> dict[str, float]:
    """Metrics of recommended lists that ask for no target.

    ``coverage@K`` is the share of the N candidates that stand in anybody's list. ``novelty@K`` is the mean of
    -log2 p(i), p(i) being the share of users with item i in their train part (Vargas and Castells 2011), one user for
    an item nobody has. ``average_popularity@K`` is the mean train count of the items shown. ``gini@K`` is the Gini
    index of how often each candidate is shown: 0 where all are alike, 1 - 1 / N where one item is all that is shown.
    ``diversity@K`` is the mean over users of 1 minus the cosine of the content of two items of a list (Ziegler et al.
    2005), over all pairs; users with fewer than two items are left out.

    Args:
        lists: (U, K) item numbers, 0 where there is none.
        split: whose items these are.
        vectors: (N+1, D) content of each item number, for the diversity; left out without.
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
    """The Gini index of ``counts`` (N,), half their mean absolute difference over their mean; 0 for no counts."""
    if not counts.sum():
        return 0.0
    ordered = np.sort(counts).astype(np.float64)
    number = len(ordered)
    return float((2 * np.arange(1, number + 1) - number - 1) @ ordered / (number * ordered.sum()))


def _diversity(lists: Int64, vectors: npt.NDArray[np.float32]) -> float:
    """By |sum of unit vectors|^2 = n + 2 * (sum of cosines of pairs): no loop over pairs."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    units[0] = 0
    total, users = 0.0, 0
    for start in range(0, len(lists), USERS_AT_ONCE):
        chunk = lists[start : start + USERS_AT_ONCE]
        numbers = (chunk > 0).sum(1)
        chunk, numbers = chunk[numbers > 1], numbers[numbers > 1]
        of_items = units[chunk].astype(np.float64)
        own = (of_items**2).sum((1, 2))  # n, less what has no content
        twice_cosines = (of_items.sum(1) ** 2).sum(1) - own
        total += float(np.sum(1 - twice_cosines / (numbers * (numbers - 1))))
        users += len(chunk)
    return total / users if users else 0.0


def activity_groups(split: Split, part: Part) -> Masks:
    """Targets (Q,) of ``part`` by how many items are known of their user, in up to five groups of like size.

    Histories of one length stay together, so there are fewer groups where few lengths are common; the names give the
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
    """Targets (Q,) of ``part`` by their tag: the most frequent tags, all others; none without tags."""
    tags = dataset.items["tag"].fill_null("").to_numpy()[split.items_kept[1:] - 1]
    of_target = tags[split.targets(part) - 1]
    names = pl.Series(of_target).value_counts(sort=True, name="count").rows()
    frequent = sorted(((count, name) for name, count in names if name), key=lambda pair: (-pair[0], pair[1]))[:most]
    if not frequent:
        return {}
    masks = {f"tag {name}": np.asarray(of_target == name) for _, name in frequent}
    return masks | {"other tags": ~np.any(list(masks.values()), axis=0)}
