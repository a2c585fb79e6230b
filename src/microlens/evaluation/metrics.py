"""Ranking metrics: the ranks of targets in, numbers out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

CUTOFFS = (10, 20)
METRICS = tuple(f"{name}@{cutoff}" for cutoff in CUTOFFS for name in ("HR", "NDCG"))
OF_SEVERAL = tuple(f"Recall@{cutoff}" for cutoff in CUTOFFS)
"""What is reported beside :data:`METRICS` where a user has several targets; with one it equals HR."""

Ranks = npt.NDArray[np.integer]
Users = npt.NDArray[np.integer]
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


@dataclass(frozen=True)
class UserRanks:
    """The ranks of every user's targets, best first.

    ``ranks`` (Q,) user by user; those of the u-th user begin at ``starts[u]``, ``counts[u]`` of them.
    """

    ranks: Ranks
    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, ranks: Ranks, users: Users | None = None) -> Self:
        """Group the ranks of targets (Q,) by the ``users`` (Q,) they belong to; without, each is a user's only one."""
        if one_each(users):
            return cls(ranks, np.arange(len(ranks)), np.ones(len(ranks), np.int64))
        assert users is not None
        order = np.lexsort((ranks, users))
        _, starts, counts = np.unique(users[order], return_index=True, return_counts=True)
        return cls(ranks[order], starts, counts)

    @property
    def best(self) -> Ranks:
        """The best rank of each user, (U,)."""
        return self.ranks[self.starts]

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """Which of its user's targets each is, from 1 for the best ranked, (Q,)."""
        return np.arange(len(self.ranks)) - np.repeat(self.starts, self.counts) + 1

    def summed(self, values: npt.NDArray[np.generic]) -> Floats:
        """The sum of ``values`` (Q,) of each user's targets, (U,)."""
        if len(self.starts) == len(self.ranks):
            return np.asarray(values, np.float64)
        return np.asarray(np.add.reduceat(np.asarray(values, np.float64), self.starts))


def one_each(users: Users | None) -> bool:
    """Whether every one of ``users`` (Q,), ascending, has one target; so where None are given."""
    return users is None or bool(np.all(users[1:] > users[:-1]))


def hit(ranks: UserRanks, cutoff: int) -> Floats:
    """HR@cutoff: whether one of a user's targets is among the first ``cutoff``, (U,)."""
    return np.asarray(ranks.best <= cutoff, np.float64)


def recall(ranks: UserRanks, cutoff: int) -> Floats:
    """Recall@cutoff: the share of a user's targets among the first ``cutoff``, (U,); HR with one target."""
    return np.asarray(ranks.summed(ranks.ranks <= cutoff) / ranks.counts)


def ndcg(ranks: UserRanks, cutoff: int) -> Floats:
    """NDCG@cutoff: the sum of 1 / log2(rank + 1) over targets within ``cutoff``, over the most it can be, (U,)."""
    most = np.cumsum(1 / np.log2(np.arange(2, cutoff + 2)))
    gains = (ranks.ranks <= cutoff) / np.log2(ranks.ranks + 1.0)
    return np.asarray(ranks.summed(gains) / most[np.minimum(ranks.counts, cutoff) - 1])


def reciprocal_rank(ranks: UserRanks, cutoff: int) -> Floats:
    """MRR@cutoff: 1 / rank of a user's best target where that is within ``cutoff``, else 0, (U,)."""
    return np.asarray((ranks.best <= cutoff) / ranks.best, np.float64)


def average_precision(ranks: UserRanks, cutoff: int) -> Floats:
    """MAP@cutoff: the precision at every target within ``cutoff``, summed over them, over all targets, (U,)."""
    return ranks.summed((ranks.ranks <= cutoff) * ranks.positions / ranks.ranks) / ranks.counts


BY_NAME: dict[str, Callable[[UserRanks, int], Floats]] = {
    "HR": hit,
    "Recall": recall,
    "NDCG": ndcg,
    "MRR": reciprocal_rank,
    "MAP": average_precision,
}
"""What each user adds to a metric (U,), by the name it goes by; the metric is the mean over users."""


def user_values(metric: str, ranks: Ranks, users: Users | None = None) -> Floats:
    """What each user adds to a metric such as ``NDCG@10``, whose value is the mean.

    Args:
        metric: one of :data:`BY_NAME`, and a cutoff.
        ranks: (Q,) the rank of each target.
        users: (Q,) whose target it is, ascending; one target a user if not given.

    Returns:
        (U,), for every user who has a target.
    """
    name, cutoff = metric.split("@")
    return BY_NAME[name](UserRanks.of(ranks, users), int(cutoff))


def metric_names(users: Users | None = None) -> tuple[str, ...]:
    """The metrics that are reported of targets of ``users`` (Q,)."""
    return METRICS if one_each(users) else (*METRICS, *OF_SEVERAL)


def all_metrics(ranks: Ranks, users: Users | None = None) -> dict[str, float]:
    """Every metric that is reported, keyed ``HR@10``; arguments as :func:`user_values`. Empty for no targets."""
    if not len(ranks):
        return {}
    return {metric: float(np.mean(user_values(metric, ranks, users))) for metric in metric_names(users)}


def bootstrap_intervals(
    ranks: Ranks, users: Users | None = None, *, seed: int = 0, resamples: int = 2000
) -> dict[str, list[float]]:
    """95 % percentile bootstrap intervals over users of every metric; arguments as :func:`user_values`.

    Users whose targets have the same ranks are alike, and all ranks beyond the last cutoff are, so drawing U users with
    replacement is drawing how many there are of each kind: one multinomial draw a resample.
    """
    if not len(ranks):
        return {}
    members, drawn = _resampled([ranks], users, seed, resamples)
    intervals = {}
    for metric in metric_names(users):
        low, high = np.quantile(drawn @ user_values(metric, ranks, users)[members], [0.025, 0.975])
        intervals[metric] = [float(low), float(high)]
    return intervals


def paired_differences(
    ranks: Ranks, others: Ranks, users: Users | None = None, *, seed: int = 0, resamples: int = 2000
) -> dict[str, list[float]]:
    """By how much every metric of one run exceeds that of another on the same users, with its 95 % interval.

    The interval is a percentile bootstrap over users, who keep their pair of rankings; see
    :func:`bootstrap_intervals`.

    Args:
        ranks: (Q,) the rank of each target.
        others: (Q,) the other run's.
        users: (Q,) whose target it is, ascending; one target a user if not given.
        seed: decides what is drawn.
        resamples: how many draws.

    Returns:
        Difference, lower and upper end by metric; empty for no targets.
    """
    if not len(ranks):
        return {}
    members, drawn = _resampled([ranks, others], users, seed, resamples)
    differences = {}
    for metric in metric_names(users):
        apart = user_values(metric, ranks, users) - user_values(metric, others, users)
        low, high = np.quantile(drawn @ apart[members], [0.025, 0.975])
        differences[metric] = [float(apart.mean()), float(low), float(high)]
    return differences


def _resampled(
    rankings: list[Ranks], users: Users | None, seed: int, resamples: int
) -> tuple[npt.NDArray[np.int64], Floats]:
    """One user of each of K kinds (K,), and the share of users of each kind in every resample (R, K)."""
    kinds = max(CUTOFFS) + 1  # ranks up to the last cutoff, and beyond
    if one_each(users):
        keys = sum(np.minimum(ranks, kinds) * (kinds + 1) ** index for index, ranks in enumerate(rankings[::-1]))
        _, members, counts = np.unique(keys, return_index=True, return_counts=True)
    else:
        rows = [user_values(metric, ranks, users) for ranks in rankings for metric in metric_names(users)]
        _, members, counts = np.unique(np.stack(rows, 1), axis=0, return_index=True, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), size=resamples)
    return members, drawn / counts.sum()
