"""The best items and their places against a sort of all scores."""

import numpy as np
import pytest

from microlens.feed import scored_items
from microlens.feed.candidates import Candidates
from microlens.feed.scored_items import ScoredItems
from tests.feed import test_policies
from tests.feed.test_policies import Counts

SIZE = 20


def candidates_of(mask: np.ndarray) -> Candidates:
    """The candidates of a mask (C,), half of the other items being those that the person has had."""
    counts = Counts(np.random.default_rng(0), len(mask))
    return test_policies.candidates_of(mask, counts)


@pytest.mark.parametrize("kept", [1, 3, 8, SIZE, 256])
@pytest.mark.parametrize("levels", [3, 1000], ids=["many ties", "few ties"])
def test_the_best_candidate_and_its_place_follow_a_sort(
    monkeypatch: pytest.MonkeyPatch, kept: int, levels: int
) -> None:
    monkeypatch.setattr(scored_items, "KEPT", kept)
    rng = np.random.default_rng(0)
    for _ in range(100):
        scores = rng.integers(0, levels, SIZE).astype(np.float32)
        scores[rng.random(SIZE) < rng.choice([0.0, 0.3, 0.9])] = -np.inf
        candidates = rng.random(SIZE) < rng.choice([0.1, 0.5])
        order = sorted(range(SIZE), key=lambda item: (-scores[item], item))
        ranked = [item for item in order if scores[item] > -np.inf]
        scored = ScoredItems.of(lambda: scores)  # noqa: B023
        assert scored.best(candidates_of(candidates)) == next((item for item in ranked if candidates[item]), None)
        places = {item: (scores[item], rank) for rank, item in enumerate(ranked, 1)}
        assert [scored.place(item) for item in range(SIZE)] == [places.get(item) for item in range(SIZE)]


def test_items_that_came_later_are_no_candidates_and_have_no_place() -> None:
    scored = ScoredItems.of(lambda: np.arange(5, dtype=np.float32))
    assert scored.best(candidates_of(np.ones(9, bool))) == 4
    assert scored.best(candidates_of(np.ones(3, bool))) == 2
    assert scored.place(7) is None


def test_scores_are_computed_again_only_where_the_kept_items_do_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scored_items, "KEPT", 4)
    computed = []
    scored = ScoredItems.of(lambda: computed.append(1) or np.arange(SIZE, dtype=np.float32))
    candidates = np.ones(SIZE, bool)
    assert (scored.best(candidates_of(candidates)), scored.place(SIZE - 2), len(computed)) == (
        SIZE - 1,
        (SIZE - 2.0, 2),
        1,
    )
    candidates[10:] = False
    assert (scored.best(candidates_of(candidates)), len(computed)) == (9, 2)
    assert (scored.place(0), len(computed)) == ((0.0, SIZE), 3)
