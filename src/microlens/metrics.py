"""Ranking metrics of one target a user: ranks in, numbers out."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

CUTOFFS = (10, 20)
METRICS = tuple(f"{name}@{cutoff}" for cutoff in CUTOFFS for name in ("HR", "NDCG"))

Ranks = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]


def rank_of_target(scores: Tensor, targets: Tensor, seen: Tensor) -> Tensor:
    """Rank of each target among the items its user has not seen; ties and NaN count against it.

    Args:
        scores: (B, N+1) score of every item for every user, column 0 being padding. **Overwritten**.
        targets: (B,) the item to be ranked.
        seen: (B, H) items the user already had, 0 where there is none; a target among them is still ranked.

    Returns:
        (B,) ranks from 1, int64. Counting needs no sort.
    """
    target_scores = scores.gather(1, targets[:, None])
    scores.scatter_(1, seen, -torch.inf)
    scores[:, 0] = -torch.inf
    scores.scatter_(1, targets[:, None], target_scores)
    # Counting what is strictly below leaves ties and NaN above the target. Padding and seen items are always below,
    # unless the target itself is minus infinity or NaN, and then it is the last of the N items. Comparing in place
    # leaves ones and zeros that add up without another array of this size: some ten times faster than counting truths.
    columns = scores.shape[1]
    assert columns <= 2 / torch.finfo(scores.dtype).eps, "more columns than this floating-point type counts exactly"
    below = scores.lt_(target_scores).sum(1).long()
    return (columns - below).clamp_(max=columns - 1)


def hit_rate(ranks: Ranks, cutoff: int) -> float:
    """HR@cutoff: the share of users whose target is among the first ``cutoff`` (equals Recall with one target)."""
    return float(np.mean(ranks <= cutoff))


def ndcg(ranks: Ranks, cutoff: int) -> float:
    """NDCG@cutoff with one target a user: the mean of 1 / log2(rank + 1) where rank <= cutoff, else 0."""
    return float(np.mean(gains(ranks, cutoff)))


def gains(ranks: Ranks, cutoff: int) -> Floats:
    """Each user's NDCG@cutoff, (U,)."""
    return np.asarray((ranks <= cutoff) / np.log2(ranks + 1.0))


def mean_reciprocal_rank(ranks: Ranks, cutoff: int) -> float:
    """MRR@cutoff: the mean of 1 / rank where rank <= cutoff, else 0 (equals MAP with one target)."""
    return float(np.mean((ranks <= cutoff) / ranks))


BY_NAME: dict[str, Callable[[Ranks, int], float]] = {
    "HR": hit_rate,
    "Recall": hit_rate,
    "NDCG": ndcg,
    "MRR": mean_reciprocal_rank,
    "MAP": mean_reciprocal_rank,
}
"""Metrics of (ranks, cutoff) by the names they go by; with one target a user some are the same."""


def all_metrics(ranks: Ranks) -> dict[str, float]:
    """HR and NDCG at every cutoff, keyed ``HR@10``; empty for no users."""
    if not len(ranks):
        return {}
    return {
        f"{name}@{cutoff}": metric(ranks, cutoff)
        for cutoff in CUTOFFS
        for name, metric in (("HR", hit_rate), ("NDCG", ndcg))
    }


def bootstrap_intervals(ranks: Ranks, seed: int = 0, resamples: int = 2000) -> dict[str, list[float]]:
    """95 % percentile bootstrap intervals over users of every metric.

    A metric depends on a user's rank alone and all ranks beyond the last cutoff are alike, so drawing U users with
    replacement is drawing how many have each rank: one multinomial draw a resample.
    """
    if not len(ranks):
        return {}
    last = max(CUTOFFS)
    shares = np.bincount(np.minimum(ranks, last + 1), minlength=last + 2)[1:] / len(ranks)
    drawn = np.random.default_rng(seed).multinomial(len(ranks), shares, size=resamples)
    values = np.arange(1, last + 2)
    intervals = {}
    for cutoff in CUTOFFS:
        for name, gain in (("HR", (values <= cutoff).astype(np.float64)), ("NDCG", gains(values, cutoff))):
            low, high = np.quantile(drawn @ gain / len(ranks), [0.025, 0.975])
            intervals[f"{name}@{cutoff}"] = [float(low), float(high)]
    return intervals


def paired_differences(ranks: Ranks, others: Ranks, seed: int = 0, resamples: int = 2000) -> dict[str, list[float]]:
    """By how much every metric of one run exceeds that of another on the same users, with its 95 % interval.

    The interval is a percentile bootstrap over users, who keep their pair of ranks; all ranks beyond the last cutoff
    are alike, so a resample is one multinomial draw of how many users have each pair.

    Args:
        ranks: (U,) the rank of each user's target.
        others: (U,) the other run's.
        seed: decides what is drawn.
        resamples: how many draws.

    Returns:
        Difference, lower and upper end by metric; empty for no users.
    """
    if not len(ranks):
        return {}
    last = max(CUTOFFS)
    kinds = last + 1  # ranks 1 to last, and beyond
    pairs = (np.minimum(ranks, kinds) - 1) * kinds + np.minimum(others, kinds) - 1
    shares = np.bincount(pairs, minlength=kinds * kinds) / len(ranks)
    drawn = np.random.default_rng(seed).multinomial(len(ranks), shares, size=resamples) / len(ranks)
    values = np.arange(1, kinds + 1)
    differences = {}
    for cutoff in CUTOFFS:
        for name, gain in (("HR", (values <= cutoff).astype(np.float64)), ("NDCG", gains(values, cutoff))):
            of_pair = np.subtract.outer(gain, gain).ravel()
            low, high = np.quantile(drawn @ of_pair, [0.025, 0.975])
            differences[f"{name}@{cutoff}"] = [float(shares @ of_pair), float(low), float(high)]
    return differences
