"""Ranks and metrics against loop twins, an independent library, and the original code."""

import math

import ir_measures
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microlens.evaluation.metrics import (
    BY_NAME,
    METRICS,
    OF_SEVERAL,
    all_metrics,
    bootstrap_intervals,
    user_values,
)
from microlens.evaluation.ranking import rank_of_target
from microlens.evaluation.significance import difference
from tests.reference.metrics_loop import bootstrap_loop, hit_rate_loop, ndcg_loop, rank_loop, several_loop

NAN, INFINITY = math.nan, math.inf


@st.composite
def ranking_cases(draw: st.DrawFn) -> tuple[list[float], int, list[int]]:
    """Scores with many ties, sometimes NaN and infinities, a target, and seen items that may hold the target."""
    values = st.sampled_from([-INFINITY, -1.0, 0.0, 0.0, 1.0, 1.0, 2.0, INFINITY, NAN])
    scores = draw(st.lists(values, min_size=2, max_size=20))
    target = draw(st.integers(1, len(scores) - 1))
    seen = draw(st.lists(st.integers(0, len(scores) - 1), max_size=5))
    return scores, target, seen


@settings(max_examples=400, deadline=None)
@given(ranking_cases())
def test_rank_equals_the_sorted_list(case: tuple[list[float], int, list[int]]) -> None:
    scores, target, seen = case
    row = torch.tensor([seen], dtype=torch.long).reshape(1, -1)
    rank = rank_of_target(torch.tensor([scores]), torch.tensor([target]), row).item()
    assert rank == rank_loop(scores, target, seen)


def test_equal_scores_rank_last() -> None:
    ranks = rank_of_target(torch.zeros(3, 101), torch.tensor([1, 50, 100]), torch.tensor([[0], [3], [100]]))
    assert ranks.tolist() == [100, 99, 100]


def test_seen_items_do_not_count() -> None:
    scores = torch.tensor([[9.0, 5.0, 4.0, 3.0, 2.0]])
    assert rank_of_target(scores.clone(), torch.tensor([4]), torch.tensor([[0, 0]])).item() == 4
    assert rank_of_target(scores.clone(), torch.tensor([4]), torch.tensor([[1, 2]])).item() == 2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=50))
def test_metrics_equal_the_loop_twins(ranks: list[int]) -> None:
    array = np.array(ranks)
    for cutoff in (1, 10, 20):
        hit_rate, ndcg = (user_values(f"{name}@{cutoff}", array).mean() for name in ("HR", "NDCG"))
        assert hit_rate == pytest.approx(hit_rate_loop(ranks, cutoff), abs=1e-12)
        assert ndcg == pytest.approx(ndcg_loop(ranks, cutoff), abs=1e-12)
        assert ndcg <= hit_rate


def test_metrics_agree_with_an_independent_library() -> None:
    """The whole way from scores to numbers, on distinct scores, where every library means the same."""
    generator = torch.Generator().manual_seed(3)
    users, items = 200, 150
    scores = torch.rand(users, items + 1, generator=generator).double()
    targets = torch.randint(1, items + 1, (users,), generator=generator)
    seen = torch.randint(0, items + 1, (users, 6), generator=generator)
    seen[seen == targets[:, None]] = 0
    run = {
        str(user): {
            str(item): float(scores[user, item]) for item in range(1, items + 1) if item not in seen[user].tolist()
        }
        for user in range(users)
    }
    qrels = {str(user): {str(int(targets[user])): 1} for user in range(users)}
    ranks = rank_of_target(scores.clone(), targets, seen).numpy()
    names = {"HR@10": "Success@10", "HR@20": "Success@20", "NDCG@10": "nDCG@10", "NDCG@20": "nDCG@20"}
    measures = {name: ir_measures.parse_measure(theirs) for name, theirs in names.items()}
    theirs = ir_measures.calc_aggregate(list(measures.values()), qrels, run)
    for name, value in all_metrics(ranks).items():
        assert value == pytest.approx(theirs[measures[name]], abs=1e-12)


def test_no_users_have_no_metrics() -> None:
    assert all_metrics(np.array([], int)) == {}
    assert bootstrap_intervals(np.array([], int)) == {}


def test_bootstrap_agrees_with_resampling_users_one_by_one() -> None:
    ranks = np.random.default_rng(0).geometric(0.04, 400)
    low, high = bootstrap_intervals(ranks, resamples=4000)["HR@10"]
    slow_low, slow_high = bootstrap_loop(ranks.tolist(), 10, resamples=1500, seed=1)
    assert low == pytest.approx(slow_low, abs=0.006)
    assert high == pytest.approx(slow_high, abs=0.006)
    assert low < all_metrics(ranks)["HR@10"] < high
    ndcg_low, ndcg_high = bootstrap_intervals(ranks)["NDCG@20"]
    assert ndcg_low < all_metrics(ranks)["NDCG@20"] < ndcg_high


several_ranks = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=25, unique=True), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(several_ranks)
def test_metrics_of_several_targets_equal_their_loop_twins(by_user: list[list[int]]) -> None:
    pairs = [(user, rank) for user, ranks in enumerate(by_user) for rank in ranks]
    users, ranks = (np.array(values) for values in zip(*pairs, strict=True))
    for cutoff in (1, 10, 20):
        for name in BY_NAME:
            expected = [several_loop(name, of_user, cutoff) for of_user in by_user]
            assert user_values(f"{name}@{cutoff}", ranks, users) == pytest.approx(expected, abs=1e-12)


def test_metrics_of_several_targets_agree_with_an_independent_library() -> None:
    """Targets of one user are each ranked among all other items, its other targets, too."""
    random = np.random.default_rng(5)
    users, items = 80, 60
    scores = random.permuted(np.tile(np.arange(1.0, items + 2), (users, 1)), axis=1)
    targets = [np.sort(random.choice(np.arange(1, items + 1), random.integers(1, 15), replace=False)) for _ in scores]
    owner = np.repeat(np.arange(users), [len(of_user) for of_user in targets])
    ranks = rank_of_target(
        torch.from_numpy(scores[owner]), torch.from_numpy(np.concatenate(targets)), torch.zeros(len(owner), 1).long()
    ).numpy()
    run = {str(user): {str(item): scores[user, item] for item in range(1, items + 1)} for user in range(users)}
    qrels = {str(user): {str(item): 1 for item in targets[user]} for user in range(users)}
    names = {"HR": "Success@10", "Recall": "R@10", "NDCG": "nDCG@10", "MRR": "RR@10", "MAP": "AP@10"}
    measures = {name: ir_measures.parse_measure(theirs) for name, theirs in names.items()}
    theirs = ir_measures.calc_aggregate(list(measures.values()), qrels, run)
    for name, measure in measures.items():
        assert user_values(f"{name}@10", ranks, owner).mean() == pytest.approx(theirs[measure], abs=1e-12)
    assert set(all_metrics(ranks, owner)) == {*METRICS, *OF_SEVERAL}


def test_intervals_of_several_targets_resample_users() -> None:
    random = np.random.default_rng(2)
    users = np.sort(random.integers(0, 150, 400))
    ours = random.geometric(0.04, 400)
    theirs = np.where(random.random(400) < 0.7, ours, random.geometric(0.04, 400))
    values = [user_values("Recall@10", ranks, users) for ranks in (ours, theirs)]
    drawn = random.integers(0, len(values[0]), (4000, len(values[0])))
    expected = np.quantile(values[0][drawn].mean(1), [0.025, 0.975])
    assert bootstrap_intervals(ours, users, resamples=4000)["Recall@10"] == pytest.approx(expected, abs=0.006)
    apart = values[0] - values[1]
    found = difference([ours], [theirs], "Recall@10", users)
    assert found["mean"] == pytest.approx(apart.mean())
    expected = np.quantile(apart[drawn].mean(1), [0.025, 0.975])
    assert [found["low"], found["high"]] == pytest.approx(expected, abs=0.006)
