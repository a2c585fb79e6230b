"""Comparisons of models on simulated people: a planted difference is found, and none between a model and itself."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from microlens.feed.models import Models
from microlens.feed.policies import draw, policy_of
from microlens.feed.report import METRICS, differences
from microlens.feed.settings import ExplorationSettings
from tests.feed.test_policies import Counts, candidates_of, ranking

REPETITIONS, PEOPLE, VIDEOS, SIZE = 200, 24, 6, 24
NO_EXPLORATION = ExplorationSettings(share=0.0)


class Experiment:
    """People who watch what two models choose, of which the second knows their tastes less well by some noise."""

    def __init__(self, noise: float, *, interleave: bool, seed: int) -> None:
        runs: list[Any] = [SimpleNamespace(name=name) for name in ("first", "second")]
        self._models = Models(runs, interleave=interleave, seed=seed)
        self._rng = np.random.default_rng([seed, interleave])
        self._noise, self._counts = noise, Counts(self._rng, SIZE)

    def p_value(self) -> float:
        """The p-value of the difference between the two models, as the report tells it."""
        values: dict[str, dict[str, np.ndarray]] = {"first": {}, "second": {}}
        for person in range(PEOPLE):
            for arm, likes in self._watch(f"person {person}").items():
                values[arm][f"{person}"] = np.full(len(METRICS), np.mean(likes))
        return differences(values, paired=self._models.interleave)[0].p

    def _watch(self, person: str) -> dict[str, list[bool]]:
        """Whether a person liked each item that a model chose, by the model that is credited."""
        liking = self._rng.random(SIZE)
        noisy = liking + self._noise * self._rng.random(SIZE)
        rankings = {
            arm: ranking(arm, scores.astype(np.float32)) for arm, scores in (("first", liking), ("second", noisy))
        }
        candidates = candidates_of(np.arange(SIZE) > 0, self._counts)
        picks, found = Counter[str](), dict[str, list[bool]]()
        for _ in range(VIDEOS):
            arms = self._models.next_arms(self._models.arm_of(person), picks)
            policy = policy_of([rankings[arm] for arm in arms], candidates, self._counts, NO_EXPLORATION)
            choice = draw(policy, self._rng)
            candidates = candidates.minus([choice.item])
            if choice.arm is not None:
                picks[choice.arm] += 1
                found.setdefault(choice.arm, []).append(bool(self._rng.random() < liking[choice.item]))
        return found


def rejected(noise: float, *, interleave: bool) -> float:
    experiments = (Experiment(noise, interleave=interleave, seed=seed) for seed in range(REPETITIONS))
    return float(np.mean([experiment.p_value() < 0.05 for experiment in experiments]))


@pytest.mark.slow
@pytest.mark.parametrize("interleave", [True, False])
def test_a_model_does_not_differ_from_itself(interleave: bool) -> None:
    low, high = stats.binom.ppf([0.001, 0.999], REPETITIONS, 0.05) / REPETITIONS
    assert low <= rejected(0.0, interleave=interleave) <= high


@pytest.mark.slow
@pytest.mark.parametrize("interleave", [True, False])
def test_a_planted_difference_is_found(interleave: bool) -> None:
    assert rejected(10.0, interleave=interleave) > 0.9


def test_an_item_that_both_models_propose_is_credited_to_the_one_whose_turn_it_is() -> None:
    rng = np.random.default_rng(0)
    scores = np.arange(SIZE, dtype=np.float32)
    models = Models([SimpleNamespace(name=name) for name in ("first", "second")], interleave=True)  # type: ignore[misc]
    credited = Counter[str]()
    for _ in range(400):
        counts, picks = Counts(rng, SIZE), Counter[str]()
        candidates = candidates_of(np.arange(SIZE) > 0, counts)
        for turn in range(2):
            arms = models.next_arms(None, picks)
            policy = policy_of(
                [ranking(arm, scores) for arm in arms],
                candidates,
                counts,
                NO_EXPLORATION,
            )
            choice = draw(policy, rng)
            assert (choice.item, choice.propensity) == (SIZE - 1 - turn, 1.0)
            candidates = candidates.minus([choice.item])
            picks[choice.arm or ""] += 1
            credited[f"{choice.arm} {turn}"] += 1
        assert picks == {"first": 1, "second": 1}
    assert 160 < credited["first 0"] < 240
