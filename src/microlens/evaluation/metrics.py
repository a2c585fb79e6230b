"""Ranking metrics, computed from the ranks of targets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

CUTOFFS = (10, 20)
METRICS = tuple(f"{name}@{cutoff}" for cutoff in CUTOFFS for name in ("HR", "NDCG"))
OF_SEVERAL = tuple(f"Recall@{cutoff}" for cutoff in CUTOFFS)
"""Reported in addition to :data:`METRICS` if users have several targets; with one target, Recall equals HR."""

T = TypeVar("T")
Ranks = npt.NDArray[np.integer]
Users = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class UserRanks:
    """The ranks of all users' targets, grouped by user, best first.

    ``ranks`` (Q,) is sorted by user; those of user u start at ``starts[u]``, and there are ``counts[u]`` of them.
    """

    ranks: Ranks
    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, ranks: Ranks, users: Users | None = None) -> Self:
        """Group the ranks of targets (Q,) by their ``users`` (Q,); if None, each user has one target."""
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
        """The position of each target among its user's targets, from 1 for the best ranked: (Q,)."""
        return np.arange(len(self.ranks)) - np.repeat(self.starts, self.counts) + 1

    def summed(self, values: npt.NDArray[np.generic]) -> Floats:
        """Sum ``values`` (Q,) over the targets of each user: (U,)."""
        if len(self.starts) == len(self.ranks):
            return np.asarray(values, np.float64)
        return np.asarray(np.add.reduceat(np.asarray(values, np.float64), self.starts))


def one_each(users: Users | None) -> bool:
    """True if each of the ascending ``users`` (Q,) has one target, or ``users`` is None."""
    return users is None or bool(np.all(users[1:] > users[:-1]))


def hit(ranks: UserRanks, cutoff: int) -> Floats:
    """HR@cutoff: 1 if any of a user's targets is among the first ``cutoff``, else 0: (U,)."""
    return np.asarray(ranks.best <= cutoff, np.float64)


def recall(ranks: UserRanks, cutoff: int) -> Floats:
    """Recall@cutoff: the fraction of a user's targets among the first ``cutoff``: (U,). Equals HR with one target."""
    return np.asarray(ranks.summed(ranks.ranks <= cutoff) / ranks.counts)


def ndcg(ranks: UserRanks, cutoff: int) -> Floats:
    """NDCG@cutoff: the sum of 1 / log2(rank + 1) over targets within ``cutoff``, divided by its maximum: (U,)."""
    most = np.cumsum(1 / np.log2(np.arange(2, cutoff + 2)))
    gains = (ranks.ranks <= cutoff) / np.log2(ranks.ranks + 1.0)
    return np.asarray(ranks.summed(gains) / most[np.minimum(ranks.counts, cutoff) - 1])


def reciprocal_rank(ranks: UserRanks, cutoff: int) -> Floats:
    """MRR@cutoff: 1 / rank of a user's best target if it is within ``cutoff``, else 0: (U,)."""
    return np.asarray((ranks.best <= cutoff) / ranks.best, np.float64)


def average_precision(ranks: UserRanks, cutoff: int) -> Floats:
    """MAP@cutoff: the sum of the precisions at targets within ``cutoff``, divided by the number of targets: (U,)."""
    return ranks.summed((ranks.ranks <= cutoff) * ranks.positions / ranks.ranks) / ranks.counts


BY_NAME: dict[str, Callable[[UserRanks, int], Floats]] = {
    "HR": hit,
    "Recall": recall,
    "NDCG": ndcg,
    "MRR": reciprocal_rank,
    "MAP": average_precision,
}
"""Per-user values (U,) of each metric; the metric is their mean."""


def user_values(metric: str, ranks: Ranks, users: Users | None = None) -> Floats:
    """The per-user values of a metric such as ``NDCG@10``, whose mean is the metric.

    Args:
        metric: a name of :data:`BY_NAME` and a cutoff.
        ranks: (Q,) the rank of each target.
        users: (Q,) the user of each target, ascending; one target per user if None.

    Returns:
        (U,) one value for every user who has a target.
    """
    name, cutoff = metric.split("@")
    return BY_NAME[name](UserRanks.of(ranks, users), int(cutoff))


def metric_names(users: Users | None = None) -> tuple[str, ...]:
    """The metrics reported for targets of ``users`` (Q,)."""
    return METRICS if one_each(users) else (*METRICS, *OF_SEVERAL)


def reported_names(values: Mapping[str, float]) -> tuple[str, ...]:
    """The names of metrics in a report's ``values`` in the order of tables."""
    return (*METRICS, *(name for name in OF_SEVERAL if name in values))


def reported_value(values: Mapping[str, T], name: str) -> T:
    """A report's value of a metric, or what its ``values`` hold for each; Recall is HR where they have none."""
    return values[name] if name in values else values[name.replace("Recall", "HR")]


def all_metrics(ranks: Ranks, users: Users | None = None) -> dict[str, float]:
    """All reported metrics, keyed ``HR@10``; arguments as :func:`user_values`. Empty if there are no targets."""
    if not len(ranks):
        return {}
    return {metric: float(np.mean(user_values(metric, ranks, users))) for metric in metric_names(users)}


def bootstrap_intervals(
    ranks: Ranks, users: Users | None = None, *, seed: int = 0, resamples: int = 2000
) -> dict[str, list[float]]:
    """95 % percentile bootstrap intervals over users of all metrics; arguments as :func:`user_values`.

    Users with the same ranks, all ranks beyond the last cutoff counting as equal, contribute the same values, so a
    resample of U users is one multinomial draw of the number of users of each kind.
    """
    if not len(ranks):
        return {}
    members, drawn = _resampled(ranks, users, seed, resamples)
    intervals = {}
    for metric in metric_names(users):
        low, high = np.quantile(drawn @ user_values(metric, ranks, users)[members], [0.025, 0.975])
        intervals[metric] = [float(low), float(high)]
    return intervals


def _resampled(ranks: Ranks, users: Users | None, seed: int, resamples: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """One user of each of K kinds (K,), and the fraction of users of each kind in every resample (R, K)."""
    kinds = max(CUTOFFS) + 1  # ranks up to the last cutoff, and one for all ranks beyond
    if one_each(users):
        _, members, counts = np.unique(np.minimum(ranks, kinds), return_index=True, return_counts=True)
    else:
        rows = [user_values(metric, ranks, users) for metric in metric_names(users)]
        _, members, counts = np.unique(np.stack(rows, 1), axis=0, return_index=True, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), size=resamples)
    return members, drawn / counts.sum()
