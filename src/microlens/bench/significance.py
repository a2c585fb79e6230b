"""What may be said of rows that were run with several seeds: intervals over users, and tests of their differences."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from microlens.metrics import METRICS, gains

Floats = npt.NDArray[np.float64]
Ranks = npt.NDArray[np.integer]


def user_values(ranks: Sequence[Ranks], metric: str) -> Floats:
    """What each user adds to a metric such as ``NDCG@10``, the mean over seeds.

    Args:
        ranks: for each of S seeds (U,) the rank of each user's target.
        metric: one of :data:`microlens.metrics.METRICS`.

    Returns:
        (U,), whose mean is the metric's mean over seeds.
    """
    name, cutoff = metric.split("@")
    values = [gains(rank, int(cutoff)) if name == "NDCG" else rank <= int(cutoff) for rank in ranks]
    return np.asarray(np.mean(values, axis=0, dtype=np.float64))


def interval_of_mean(values: Floats, seed: int = 0, resamples: int = 2000) -> list[float]:
    """The 95 % percentile bootstrap interval of the mean of ``values`` (U,) over users.

    Users of equal value are alike, so a resample is one multinomial draw of how many there are of each value.
    """
    distinct, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=resamples)
    low, high = np.quantile(drawn @ distinct / len(values), [0.025, 0.975])
    return [float(low), float(high)]


def difference(ours: Sequence[Ranks], theirs: Sequence[Ranks], metric: str) -> dict[str, float]:
    """By how much one row exceeds another in a metric, on the same users, each the mean over its seeds.

    Returns:
        "mean", "low" and "high" of the 95 % bootstrap interval over users, and "p", the two-sided p-value of a paired
        t-test over users (1 where no user differs); empty for no users.
    """
    apart = user_values(ours, metric) - user_values(theirs, metric)
    if not len(apart):
        return {}
    low, high = interval_of_mean(apart)
    p = float(stats.ttest_1samp(apart, 0.0).pvalue) if len(apart) > 1 and np.ptp(apart) > 0 else 1.0
    return {"mean": float(apart.mean()), "low": low, "high": high, "p": p}


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for how many there are (Holm 1979): reject those below 0.05 and one false alarm in twenty.

    The smallest of n is multiplied by n, the next by n - 1, and so on; none becomes less than one before it, none more
    than 1.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, np.float64)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected.tolist()


def mean_metrics(ranks: Sequence[Ranks], mask: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Every metric of the users of a mask (U,), the mean over seeds; empty for no users."""
    if not mask.any():
        return {}
    return {metric: float(user_values([rank[mask] for rank in ranks], metric).mean()) for metric in METRICS}


def intervals(ranks: Sequence[Ranks], mask: npt.NDArray[np.bool_]) -> dict[str, list[float]]:
    """The 95 % interval over users of every metric, as :func:`mean_metrics`."""
    if not mask.any():
        return {}
    return {metric: interval_of_mean(user_values([rank[mask] for rank in ranks], metric)) for metric in METRICS}
