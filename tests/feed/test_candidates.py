"""Candidates against masks of all items."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from microlens.feed.candidates import Allowed, Candidates
from tests.feed.test_policies import Counts


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_candidates_are_what_a_mask_of_all_items_says(seed: int, drawing: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 30))
    allowed, counts = rng.random(size) < rng.choice([0.1, 0.7, 1.0]), Counts(rng, size)
    allowed[0] = False
    had = rng.choice(size + 3, rng.integers(0, size), replace=False).tolist()
    left = allowed.copy()
    left[[item for item in had if item < size]] = False
    half = len(had) // 2
    candidates = Candidates(Allowed(allowed, counts), had[:half]).minus(had[half:])
    np.testing.assert_array_equal(candidates.mask, left)
    assert [item in candidates for item in range(size + 3)] == [*left.tolist(), False, False, False]
    assert bool(candidates) == left.any()
    for found, mask in ((candidates.all, left), (candidates.new, left & counts.is_new)):
        assert [found[place] for place in range(len(found))] == np.flatnonzero(mask).tolist() == found.array().tolist()
        assert [item in found for item in range(size)] == mask.tolist()
    if left.any():
        weights = np.where(left, counts.interactions + 1, 0)
        expected = np.random.default_rng(drawing).integers(weights.sum())
        assert candidates.popular(np.random.default_rng(drawing)) == np.flatnonzero(weights.cumsum() > expected)[0]
        np.testing.assert_allclose(
            [candidates.popularity(item) for item in range(size + 3)], [*weights / weights.sum(), 0, 0, 0]
        )


def test_an_item_is_new_until_it_has_been_shown_often() -> None:
    counts = Counts(np.random.default_rng(0), 4)
    counts.interactions, counts.exposures = np.array([0, 18, 18, 0]), np.zeros(4, np.int64)
    counts._find_new()
    candidates = Candidates(Allowed(np.array([False, True, True, True]), counts))
    counts.add_exposure(1)
    assert candidates.minus([]).new.array().tolist() == [1, 2, 3]
    counts.add_exposure(1)
    assert candidates.minus([]).new.array().tolist() == [2, 3]
    counts.grow(5)
    assert counts.is_new.tolist() == [True, False, True, True, True]
