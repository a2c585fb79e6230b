"""What is said of differences: intervals, tests and their correction, against other ways to get them."""

import numpy as np
import pytest
from scipy import stats

from microlens.evaluation.metrics import METRICS, all_metrics, bootstrap_intervals
from microlens.evaluation.significance import difference, holm, interval_of_mean, intervals, mean_metrics, seed_means


def ranks_of(seed: int, users: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 60, users)


@pytest.mark.parametrize("metric", METRICS)
def test_users_values_average_to_the_mean_over_seeds(metric: str) -> None:
    ranks = [ranks_of(seed) for seed in range(3)]
    expected = np.mean([all_metrics(of_seed)[metric] for of_seed in ranks])
    assert seed_means(ranks, metric).mean() == pytest.approx(expected)
    everybody = np.ones(400, bool)
    assert mean_metrics(ranks, everybody)[metric] == pytest.approx(expected)
    assert mean_metrics(ranks, ~everybody) == intervals(ranks, ~everybody) == {}


def test_one_seed_has_the_interval_of_its_report() -> None:
    ranks = ranks_of(0, users=2000)
    ours = intervals([ranks], np.ones(2000, bool))
    for metric, expected in bootstrap_intervals(ranks).items():
        assert ours[metric] == pytest.approx(expected, abs=0.004)


def test_an_interval_is_that_of_scipy() -> None:
    values = seed_means([ranks_of(seed) for seed in range(3)], "NDCG@10")
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert interval_of_mean(values, resamples=4000) == pytest.approx(list(theirs), abs=0.003)


def test_a_difference_is_tested_on_the_same_users() -> None:
    ours = ranks_of(1)
    theirs = np.where(np.random.default_rng(2).random(400) < 0.8, ours, ranks_of(3))
    found = difference([ours], [theirs], "HR@10")
    expected = stats.ttest_rel(1.0 * (ours <= 10), 1.0 * (theirs <= 10))
    assert found["p"] == pytest.approx(float(expected.pvalue))
    assert found["mean"] == pytest.approx(np.mean(ours <= 10) - np.mean(theirs <= 10))
    apart = (ours <= 10) * 1.0 - (theirs <= 10)
    resampled = stats.bootstrap((apart,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert [found["low"], found["high"]] == pytest.approx(list(resampled), abs=0.005)
    assert difference([ours], [ours], "HR@10")["p"] == 1.0
    assert difference([ours[:0]], [ours[:0]], "HR@10") == {}


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
