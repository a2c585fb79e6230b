"""Intervals and paired tests over users and seeds.

A row of a table is the mean over two samples that cross: users, and the seeds of training, each of which ranks for
every user. Both would be others if the experiment were repeated, so both belong in the error. The variance of a
difference of two rows is estimated as the sum of

- the variance between users of their difference, averaged over seeds, divided by the number of users; and
- for each row, the variance between the means of its seeds, divided by the number of its seeds.

This is the variance of two-way clustering (Cameron, Gelbach and Miller 2011) without its last, subtracted term: what
users and seeds do together is counted in both parts, so the sum errs to the large side. The interval and the p-value
are those of Student's t with Satterthwaite's degrees of freedom (1946), so a difference is significant at 5 % if and
only if its 95 % interval excludes 0. A bootstrap of users and seeds is not used, because resampling S seeds gives
(S - 1) / S of the variance between seeds, a third too little with three.

Simulated with two rows of equal mean, the test at 5 % rejects 1 to 5 % of the time with three seeds each, and 1 to 8 %
with three seeds against a row that has none, whatever the share of the variance between seeds. A t-test over users
rejects 9 to 33 % where seeds make a quarter to three quarters of the variance. With two seeds it can be 13 %:
:data:`FEWEST_SEEDS` are asked for. Far below 5 %, where corrected tests of many rows work, three seeds against a row
without are less exact (1 to 3 times the level while seeds make less than half of the variance); five seeds halve that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from microlens.evaluation.metrics import Floats, Ranks, Users, metric_names, user_values

LEVEL = 0.05
"""Differences with a p-value below it are called significant; intervals cover 1 - LEVEL."""

FEWEST_SEEDS = 3
"""The number of seeds that a row needs for a test, unless its model does not depend on the seed."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean, its standard error, and the degrees of freedom of the error."""

    mean: float
    error: float
    freedom: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean."""
        half = float(stdtrit(self.freedom, 1 - LEVEL / 2)) * self.error
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """The two-sided p-value of a mean of 0; if nothing varies, 1 for a mean of 0 and else 0."""
        if not self.error:
            return float(not self.mean)
        return 2 * float(stdtr(self.freedom, -abs(self.mean) / self.error))


def estimate(ours: Floats, theirs: Floats | None = None) -> Estimate:
    """The mean of a row, or its difference from another row of the same users.

    Args:
        ours: (S, U) the values of each seed and user.
        theirs: (T, U) those of the other row.
    """
    rows = [ours] if theirs is None else [ours, theirs]
    of_user = ours.mean(0) if theirs is None else ours.mean(0) - theirs.mean(0)
    parts = [_variance_of_mean(of_user), *map(_variance_between_seeds, rows)]
    sizes = [len(of_user), *map(len, rows)]
    variance = sum(parts)
    spread = sum(part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True) if part)
    return Estimate(mean=float(of_user.mean()), error=variance**0.5, freedom=variance**2 / spread if spread else np.inf)


def unpaired(ours: Estimate, theirs: Estimate) -> Estimate:
    """The difference between two means over different users, with Welch's degrees of freedom (1947)."""
    variance = ours.error**2 + theirs.error**2
    spread = sum(one.error**4 / one.freedom for one in (ours, theirs) if one.error)
    freedom = variance**2 / spread if spread else np.inf
    return Estimate(mean=ours.mean - theirs.mean, error=variance**0.5, freedom=freedom)


def _variance_between_seeds(values: Floats) -> float:
    """The part of the variance of the mean of ``values`` (S, U) that is due to seeds; 0 for a single one."""
    return _variance_of_mean(values.mean(1))


def _variance_of_mean(values: Floats) -> float:
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0


def seed_values(ranks: Sequence[Ranks], metric: str, users: Users | None = None) -> Floats:
    """The per-user values of a metric such as ``NDCG@10`` for each seed.

    Args:
        ranks: for each of S seeds the rank of each target (Q,).
        metric: a name of :data:`microlens.evaluation.metrics.BY_NAME` and a cutoff.
        users: (Q,) the user of each target, ascending; one target per user if None.

    Returns:
        (S, U) values, whose mean is the metric's mean over seeds.
    """
    return np.stack([user_values(metric, of_seed, users) for of_seed in ranks])


def difference(
    ours: Sequence[Ranks], theirs: Sequence[Ranks], metric: str, users: Users | None = None
) -> dict[str, float]:
    """The difference of two rows in a metric on the same users, each averaged over its seeds.

    Returns:
        "mean"; "low" and "high" of the 95 % interval; and "p", the two-sided p-value: all over users, and over the
        seeds of rows that have several, see :mod:`microlens.evaluation.significance`. Empty if there are no users.
        Of a single user, whose spread is not known, the interval is all that is possible.
    """
    if not len(ours[0]):
        return {}
    values, others = seed_values(ours, metric, users), seed_values(theirs, metric, users)
    found = estimate(values, others)
    if values.shape[1] == 1:
        return {"mean": found.mean, "low": -1.0, "high": 1.0, "p": 1.0}
    low, high = found.interval
    return {"mean": found.mean, "low": low, "high": high, "p": found.p}


def enough_seeds(seeds: int, depends_on_seed: bool) -> bool:
    """True if a row with so many seeds can be tested."""
    return seeds >= FEWEST_SEEDS or not depends_on_seed


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
    """The 95 % intervals of all metrics, over users and over seeds if several; arguments as :func:`mean_metrics`."""
    return {metric: interval_of(values) for metric, values in _masked(ranks, mask, users).items()}


def interval_of(values: Floats) -> list[float]:
    """The 95 % interval of the mean of a metric's ``values`` (S, U), within 0 and 1."""
    return [min(max(end, 0.0), 1.0) for end in estimate(values).interval]


def _masked(ranks: Sequence[Ranks], mask: npt.NDArray[np.bool_], users: Users | None) -> dict[str, Floats]:
    if not mask.any():
        return {}
    names = metric_names(users)  # those of all targets, so that every slice reports the same metrics
    kept = None if users is None else users[mask]
    return {metric: seed_values([of_seed[mask] for of_seed in ranks], metric, kept) for metric in names}
