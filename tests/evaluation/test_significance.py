"""What is said of differences: intervals, tests and their correction, against other ways to get them."""

import numpy as np
import pytest
from scipy import stats

from microlens.evaluation.metrics import METRICS, all_metrics, bootstrap_intervals
from microlens.evaluation.significance import (
    difference,
    enough_seeds,
    estimate,
    holm,
    interval_of,
    intervals,
    mean_metrics,
    seed_values,
)


def ranks_of(seed: int, users: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 60, users)


@pytest.mark.parametrize("metric", METRICS)
def test_values_of_users_and_seeds_average_to_the_mean_over_seeds(metric: str) -> None:
    ranks = [ranks_of(seed) for seed in range(3)]
    expected = np.mean([all_metrics(of_seed)[metric] for of_seed in ranks])
    assert seed_values(ranks, metric).shape == (3, 400)
    assert seed_values(ranks, metric).mean() == pytest.approx(expected)
    everybody = np.ones(400, bool)
    assert mean_metrics(ranks, everybody)[metric] == pytest.approx(expected)
    assert mean_metrics(ranks, ~everybody) == intervals(ranks, ~everybody) == {}


def test_one_seed_has_the_interval_of_its_report() -> None:
    ranks = ranks_of(0, users=2000)
    ours = intervals([ranks], np.ones(2000, bool))
    for metric, expected in bootstrap_intervals(ranks).items():
        assert ours[metric] == pytest.approx(expected, abs=0.004)


def test_intervals_are_shares() -> None:
    assert interval_of(np.array([[0.0] * 9 + [1.0]]))[0] == 0.0
    assert interval_of(np.array([[1.0] * 9 + [0.0]]))[1] == 1.0
    assert interval_of(np.zeros((3, 10))) == [0.0, 0.0]


def test_one_seed_is_the_paired_t_test_over_users() -> None:
    ours = ranks_of(1)
    theirs = np.where(np.random.default_rng(2).random(400) < 0.8, ours, ranks_of(3))
    found = difference([ours], [theirs], "HR@10")
    expected = stats.ttest_rel(1.0 * (ours <= 10), 1.0 * (theirs <= 10))
    assert found["p"] == pytest.approx(float(expected.pvalue))
    assert found["mean"] == pytest.approx(np.mean(ours <= 10) - np.mean(theirs <= 10))
    assert [found["low"], found["high"]] == pytest.approx(list(expected.confidence_interval()))
    assert difference([ours], [ours], "HR@10")["p"] == 1.0
    assert difference([ours[:1]], [theirs[:1]], "HR@10")["p"] == 1.0
    assert difference([ours[:0]], [ours[:0]], "HR@10") == {}


def test_seeds_that_differ_alone_are_a_t_test_over_seeds() -> None:
    """Without differences between users, the test is Welch's over the means of the seeds."""
    ours, theirs = np.array([0.30, 0.34, 0.31]), np.array([0.29, 0.25, 0.28, 0.26])
    found = estimate(np.repeat(ours[:, None], 50, 1), np.repeat(theirs[:, None], 50, 1))
    expected = stats.ttest_ind(ours, theirs, equal_var=False)
    assert found.p == pytest.approx(float(expected.pvalue))
    assert found.freedom == pytest.approx(float(expected.df))
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()))


def rows_of_equal_mean(random: np.random.Generator, *seeds: int) -> list[np.ndarray]:
    """Values (S, 300) of rows with so many seeds of standard deviation 0.04, or none of any influence if 1.

    The rows share their users, who have a liking of their own for each of them.
    """
    users = 0.5 + random.normal(0, 0.3, 300)
    return [users + random.normal(0, 0.2, 300) + random.normal(0, 0.04 * (S > 1), (S, 1)) for S in seeds]


def test_the_variance_is_that_of_repeated_experiments() -> None:
    random = np.random.default_rng(0)
    found = [estimate(*rows_of_equal_mean(random, 4, 2)) for _ in range(1500)]
    means, errors = np.array([(one.mean, one.error) for one in found]).T
    assert np.mean(errors**2) == pytest.approx(np.var(means), rel=0.1)


def rejections(*seeds: int, draws: int = 1500) -> tuple[float, float]:
    """How often two rows of equal mean differ significantly: by our test, and by a paired t-test over users."""
    random = np.random.default_rng(1)
    pairs = [rows_of_equal_mean(random, *seeds) for _ in range(draws)]
    ours = [estimate(*pair).p < 0.05 for pair in pairs]
    over_users = stats.ttest_rel(
        *(np.array([row.mean(0) for row in rows]) for rows in zip(*pairs, strict=True)), axis=1
    )
    return float(np.mean(ours)), float(np.mean(over_users.pvalue < 0.05))


@pytest.mark.parametrize(("seeds", "most"), [((3, 3), 0.065), ((3, 1), 0.09), ((5, 5), 0.065)])
def test_rows_of_equal_mean_differ_about_one_time_in_twenty(seeds: tuple[int, int], most: float) -> None:
    """Also with three seeds, where a t-test over users finds a difference that is not there in every third case."""
    ours, over_users = rejections(*seeds)
    assert 0.02 < ours < most
    assert over_users > 0.2


def test_a_test_and_its_interval_agree() -> None:
    random = np.random.default_rng(2)
    decisions = set()
    for _ in range(200):
        ours, theirs = rows_of_equal_mean(random, 3, 3)
        found = estimate(ours + random.normal(0, 0.06), theirs)
        low, high = found.interval
        assert (found.p < 0.05) == (low > 0 or high < 0)
        decisions.add(found.p < 0.05)
    assert decisions == {True, False}


def test_a_difference_that_every_user_has_is_certain() -> None:
    for mean, p in ((0.0, 1.0), (0.5, 0.0), (-0.5, 0.0)):
        found = estimate(np.full((1, 7), mean))
        assert (found.p, found.interval) == (p, (mean, mean))


def test_who_has_enough_seeds() -> None:
    assert [enough_seeds(seeds, True) for seeds in (1, 2, 3, 4)] == [False, False, True, True]
    assert enough_seeds(1, False)


def test_holm_is_that_of_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    random = np.random.default_rng(0)
    for count in (1, 2, 7, 25):
        p = random.random(count) ** 3
        assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_single_user_tells_no_rows_apart() -> None:
    found = difference([np.array([1])] * 3, [np.array([50])] * 3, "HR@10")
    assert found == {"mean": 1.0, "low": -1.0, "high": 1.0, "p": 1.0}
