"""Policies: probabilities that sum to 1, draws that follow them, and their parts against slow twins."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from microlens.feed import exploration
from microlens.feed.candidates import Allowed, Candidates
from microlens.feed.item_counts import ItemCounts
from microlens.feed.policies import Part, Ranking, Weighted, draw, policy_of
from microlens.feed.scored_items import ScoredItems
from microlens.feed.settings import ExplorationSettings


class Counts(ItemCounts):
    """Counts without a catalogue."""

    def __init__(self, rng: np.random.Generator, size: int, new_below: int = 20) -> None:
        self.interactions = rng.integers(0, 40, size)
        self.exposures = rng.integers(0, 30, size)
        self.ends = rng.integers(0, 30, size)
        self.watched = self.ends * rng.random(size)
        self.views, self.likes, self.comments = self.ends, self.ends, self.ends
        self._changing, self._new_below, self.version = threading.Lock(), new_below, 0
        self._find_new()


def dense(policy: list[Part], size: int) -> np.ndarray:
    """The probability of every item: the slow twin of a choice's propensity."""
    return np.array([sum(part.share * part.probability(item) for part in policy) for item in range(size)])


def candidates_of(mask: np.ndarray, counts: ItemCounts) -> Candidates:
    """The candidates of a mask (C,), every second other item being one that the person has had."""
    allowed = mask | (np.arange(len(mask)) % 2 == 1)
    return Candidates(Allowed(allowed, counts), np.flatnonzero(~mask).tolist())


def ranking(arm: str, scores: np.ndarray) -> Ranking:
    return Ranking(arm=arm, scored=ScoredItems.of(lambda: scores))


@st.composite
def situations(draw_: st.DrawFn) -> tuple[list[Part], np.ndarray]:
    rng = np.random.default_rng(draw_(st.integers(0, 2**32)))
    size = draw_(st.integers(2, 40))
    candidates = rng.random(size) < 0.6
    candidates[0] = False
    candidates[rng.integers(1, size)] = True
    explore = ExplorationSettings(
        kind=draw_(st.sampled_from(["epsilon", "thompson"])),
        share=draw_(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        new_below=draw_(st.sampled_from([0, 20, 1000])),
        pool=draw_(st.integers(2, 10)),
    )
    rankings = []
    for arm in range(draw_(st.integers(0, 3))):
        scores = rng.integers(0, 5, size).astype(np.float32)  # many ties
        scores[rng.random(size) < 0.3] = -np.inf
        rankings.append(ranking(f"arm {arm}", scores))
    counts = Counts(rng, size, explore.new_below)
    return policy_of(rankings, candidates_of(candidates, counts), counts, explore), candidates


@settings(max_examples=150, deadline=None)
@given(situations(), st.integers(0, 2**32))
def test_a_policy_is_a_distribution_over_the_candidates(situation: tuple[list[Part], np.ndarray], seed: int) -> None:
    policy, candidates = situation
    whole = dense(policy, len(candidates))
    assert whole.sum() == pytest.approx(1.0, abs=1e-9)
    assert (whole[~candidates] == 0).all()
    choice = draw(policy, np.random.default_rng(seed))
    assert choice.propensity == pytest.approx(whole[choice.item], abs=1e-12)
    assert choice.propensity > 0


@pytest.mark.parametrize("kind", ["epsilon", "thompson"])
def test_items_are_drawn_as_often_as_their_propensity_says(kind: str) -> None:
    rng, size, draws = np.random.default_rng(0), 12, 20_000
    candidates = np.arange(size) > 2
    rankings = [ranking(arm, rng.random(size).astype(np.float32)) for arm in "ab"]
    explore = ExplorationSettings.model_validate({"kind": kind, "share": 0.4})
    counts = Counts(rng, size)
    policy = policy_of(rankings, candidates_of(candidates, counts), counts, explore)
    drawn = [draw(policy, rng) for _ in range(draws)]
    expected = dense(policy, size)
    found = np.bincount([choice.item for choice in drawn], minlength=size)
    possible = expected > 0
    assert found[~possible].sum() == 0
    assert stats.chisquare(found[possible], draws * expected[possible]).pvalue > 1e-3
    by_arm = {arm: sum(choice.arm == arm for choice in drawn) / draws for arm in ("a", "b", None)}
    assert by_arm == pytest.approx({"a": 0.3, "b": 0.3, None: 0.4}, abs=0.02)


def test_popular_items_are_drawn_as_often_as_their_propensity_says() -> None:
    rng, size, draws = np.random.default_rng(0), 9, 20_000
    candidates = np.isin(np.arange(size), [1, 2, 4, 8])
    counts = Counts(rng, size)
    policy = policy_of([], candidates_of(candidates, counts), counts, ExplorationSettings(share=0.0))
    found = np.bincount([draw(policy, rng).item for _ in range(draws)], minlength=size)
    assert found[~candidates].sum() == 0
    assert stats.chisquare(found[candidates], draws * dense(policy, size)[candidates]).pvalue > 1e-3


def test_thompson_is_the_probability_to_have_the_highest_draw() -> None:
    rng = np.random.default_rng(0)
    ends = np.array([0, 5, 40, 40, 200])
    watched = np.array([0.0, 4.0, 25.0, 20.0, 125.0])
    draws = rng.beta(1 + watched, 1 + ends - watched, (200_000, len(ends)))
    expected = np.bincount(draws.argmax(1), minlength=len(ends)) / len(draws)
    np.testing.assert_allclose(exploration.thompson(watched, ends), expected, atol=0.01)


def test_thompson_of_items_that_nobody_saw_is_uniform() -> None:
    found = exploration.thompson(np.zeros(50), np.zeros(50, np.int64))
    np.testing.assert_allclose(found, 0.02, rtol=1e-6)


def test_new_items_are_explored_and_all_where_none_is_new() -> None:
    counts = Counts(np.random.default_rng(0), 6)
    counts.interactions, counts.exposures = np.array([0, 19, 20, 5, 0, 3]), np.array([0, 0, 0, 15, 2, 0])
    counts._find_new()
    explore = ExplorationSettings(share=1.0, new_below=20)
    candidates = candidates_of(np.array([False, True, True, True, True, False]), counts)
    np.testing.assert_allclose(dense(policy_of([], candidates, counts, explore), 6)[[1, 4]], 0.5)
    counts.exposures += 100
    counts._find_new()
    policy = policy_of([], candidates.minus([]), counts, explore)
    np.testing.assert_allclose(dense(policy, 6)[1:5], 0.25)


@pytest.mark.parametrize("size", [1, 5, 6, 40])
def test_the_items_shown_least_are_sampled_the_first_of_equal_ones(size: int) -> None:
    rng = np.random.default_rng(size)
    for _ in range(20):
        counts = Counts(rng, size + 1, new_below=0)
        counts.exposures = rng.integers(0, 4, size + 1)
        explore = ExplorationSettings(kind="thompson", share=1.0, new_below=0, pool=5)
        candidates = candidates_of(np.arange(size + 1) > 0, counts)
        expected = sorted(range(1, size + 1), key=lambda item: (counts.exposures[item], item))[:5]
        (part,) = [part for part in policy_of([], candidates, counts, explore) if isinstance(part, Weighted)]
        assert part.items.tolist() == expected


def test_a_person_without_history_gets_popular_items_more_often() -> None:
    counts = Counts(np.random.default_rng(0), 4)
    counts.interactions = np.array([9, 0, 3, 5])
    candidates = candidates_of(np.array([False, True, True, True]), counts)
    policy = policy_of([], candidates, counts, ExplorationSettings(share=0.0))
    np.testing.assert_allclose(dense(policy, 4), [0, 1 / 11, 4 / 11, 6 / 11])
