"""Residual k-means against loops, and the balance of its clusters."""

import numpy as np
import pytest

from microlens.quantization import kmeans
from microlens.quantization.kmeans import (
    balanced_assignment,
    random_codes,
    residual_codebooks,
    residual_kmeans,
    squared_distances,
)
from tests.reference import quantization as loops


def vectors_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


@pytest.mark.parametrize(("items", "codes"), [(13, 4), (40, 7), (9, 4), (12, 3), (5, 5)])
def test_the_nearest_pairs_are_joined_first(items: int, codes: int) -> None:
    """With many ties, and where codes stay empty."""
    for seed in range(5):
        distances = np.random.default_rng(seed).integers(0, 6, (items, codes)).astype(float)
        assert balanced_assignment(distances).tolist() == loops.greedy_matching(distances)


def test_distances_are_those_of_a_loop() -> None:
    one, other = vectors_of(5).astype(float), vectors_of(4, 1).astype(float)
    expected = [[loops.squared_distance(a, b) for b in other] for a in one]
    np.testing.assert_allclose(squared_distances(one, other), expected, atol=1e-12)


def test_codes_are_the_nearest_of_each_level_and_restore_the_sum() -> None:
    vectors = vectors_of(40)
    arguments = {"levels": 3, "num_codes": 5, "seed": 3, "balanced": False}
    codes, codebooks = residual_codebooks(vectors, **arguments)
    found = residual_kmeans(vectors, **arguments)
    np.testing.assert_array_equal(found.codes, codes)
    for vector, own, restored in zip(vectors.astype(float), codes.tolist(), found.restored, strict=True):
        expected, residual = loops.nearest_codes(vector, codebooks)
        assert own == expected
        np.testing.assert_allclose(restored, vector - residual, atol=1e-6)


@pytest.mark.parametrize("items", [40, 43])
def test_no_code_of_a_balanced_level_has_more_than_its_share(items: int) -> None:
    found = residual_kmeans(vectors_of(items), levels=2, num_codes=8, seed=0, balanced=True)
    for level in range(2):
        assert np.bincount(found.codes[:, level]).max() <= -(-items // 8)


def test_balanced_centroids_are_the_means_of_their_items() -> None:
    """Once nothing changes any more, an assignment and its means belong together."""
    vectors = vectors_of(30)
    vectors[:20] *= 0.1  # twenty of them in one place, of which a code takes eight
    codes, codebooks = residual_codebooks(vectors, levels=1, num_codes=4, seed=1, balanced=True)
    means = [vectors[codes[:, 0] == code].mean(0) for code in range(4)]
    np.testing.assert_allclose(codebooks[0], means, atol=1e-6)


def test_the_seed_decides_everything() -> None:
    one, again, other = (
        residual_kmeans(vectors_of(60), levels=2, num_codes=6, seed=seed, balanced=True).codes for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_equal_vectors_have_no_error_but_a_balanced_level_separates_them() -> None:
    vectors = np.ones((8, 3), np.float32)
    plain, balanced = (
        residual_kmeans(vectors, levels=1, num_codes=4, seed=0, balanced=balanced) for balanced in (False, True)
    )
    np.testing.assert_array_equal(plain.restored, vectors)
    assert len(set(plain.codes[:, 0].tolist())) == 1
    assert np.bincount(balanced.codes[:, 0]).tolist() == [2, 2, 2, 2]


def test_random_codes_are_balanced_and_ignore_the_vectors() -> None:
    one, other, seeded = (
        random_codes(vectors, levels=2, num_codes=8, seed=seed)
        for vectors, seed in ((vectors_of(43), 0), (vectors_of(43, 1), 0), (vectors_of(43), 1))
    )
    np.testing.assert_array_equal(one.codes, other.codes)
    assert (one.codes != seeded.codes).any()
    assert (one.codes[:, 0] != one.codes[:, 1]).any()
    assert [sorted(set(np.bincount(level).tolist())) for level in one.codes.T] == [[5, 6]] * 2


@pytest.mark.parametrize(("levels", "num_codes"), [(0, 4), (1, 1), (1, 11)])
def test_sizes_out_of_range_are_refused(levels: int, num_codes: int) -> None:
    with pytest.raises(ValueError, match=f"levels = {levels}, codes = {num_codes}"):
        residual_kmeans(vectors_of(10), levels=levels, num_codes=num_codes, seed=0, balanced=False)


def test_a_matching_by_rows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: each code, one after the other, takes the items nearest to it, as in OneRec."""

    def by_rows(distances: np.ndarray) -> np.ndarray:
        capacity, free = -(-len(distances) // distances.shape[1]), list(range(len(distances)))
        codes = np.zeros(len(distances), int)
        for code in range(distances.shape[1]):
            for item in sorted(free, key=lambda item: distances[item, code])[:capacity]:
                codes[item] = code
                free.remove(item)
        return codes

    monkeypatch.setattr(kmeans, "balanced_assignment", by_rows)
    distances = np.random.default_rng(0).random((13, 4))
    assert kmeans.balanced_assignment(distances).tolist() != loops.greedy_matching(distances)
