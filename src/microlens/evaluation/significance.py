"""Intervals and paired tests over users, for rows with several seeds."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from microlens.evaluation.metrics import Floats, Ranks, Users, metric_names, user_values


def seed_means(ranks: Sequence[Ranks], metric: str, users: Users | None = None) -> Floats:
    """The per-user values of a metric such as ``NDCG@10``, averaged over seeds.

    Args:
        ranks: for each of S seeds the rank of each target (Q,).
        metric: a name of :data:`microlens.evaluation.metrics.BY_NAME` and a cutoff.
        users: (Q,) the user of each target, ascending; one target per user if None.

    Returns:
        (U,) values, whose mean is the metric's mean over seeds.
    """
    return np.asarray(np.mean([user_values(metric, of_seed, users) for of_seed in ranks], axis=0, dtype=np.float64))


def interval_of_mean(values: Floats, seed: int = 0, resamples: int = 2000) -> list[float]:
    """The 95 % percentile bootstrap interval of the mean of ``values`` (U,) over users.

    Users with equal values are interchangeable, so a resample is one multinomial draw of the number of users per value.
    """
    distinct, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=resamples)
    low, high = np.quantile(drawn @ distinct / len(values), [0.025, 0.975])
    return [float(low), float(high)]


def difference(
    ours: Sequence[Ranks], theirs: Sequence[Ranks], metric: str, users: Users | None = None
) -> dict[str, float]:
    """The difference of two rows in a metric on the same users, each averaged over its seeds.

    Returns:
        "mean"; "low" and "high" of the 95 % bootstrap interval over users; and "p", the two-sided p-value of a paired
        t-test over users (1 if no user differs). Empty if there are no users.
    """
    apart = seed_means(ours, metric, users) - seed_means(theirs, metric, users)
    if not len(apart):
        return {}
    low, high = interval_of_mean(apart)
    p = float(stats.ttest_1samp(apart, 0.0).pvalue) if len(apart) > 1 and np.ptp(apart) > 0 else 1.0
    return {"mean": float(apart.mean()), "low": low, "high": high, "p": p}


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values with Holm's correction for multiple tests (Holm 1979).

    Rejecting corrected values below 0.05 keeps the probability of any false rejection below 5 %. The smallest of n is
    multiplied by n, the next by n - 1, and so on; values are made non-decreasing and at most 1.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, np.float64)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected.tolist()


def mean_metrics(ranks: Sequence[Ranks], mask: npt.NDArray[np.bool_], users: Users | None = None) -> dict[str, float]:
    """All metrics of the targets in ``mask`` (Q,), averaged over seeds; empty if there are none."""
    return {metric: float(values.mean()) for metric, values in _masked(ranks, mask, users).items()}


def intervals(
    ranks: Sequence[Ranks], mask: npt.NDArray[np.bool_], users: Users | None = None
) -> dict[str, list[float]]:
    """The 95 % intervals over users of all metrics; arguments as :func:`mean_metrics`."""
    return {metric: interval_of_mean(values) for metric, values in _masked(ranks, mask, users).items()}


def _masked(ranks: Sequence[Ranks], mask: npt.NDArray[np.bool_], users: Users | None) -> dict[str, Floats]:
    if not mask.any():
        return {}
    names = metric_names(users)  # those of all targets, so that every slice reports the same metrics
    kept = None if users is None else users[mask]
    return {metric: seed_means([of_seed[mask] for of_seed in ranks], metric, kept) for metric in names}
