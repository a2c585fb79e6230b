"""FEASE against one least-squares problem per item, with planted deviations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from microlens.building import build
from microlens.data.split import Split
from microlens.errors import InputError
from microlens.recommenders import RECOMMENDERS, fease, ridge
from microlens.recommenders.fease import FEASE
from tests.recommenders.test_baselines import MEMORIES, all_scores, fitted, small_split, train_lists
from tests.reference import baselines as loops

OPTIONS = {"regularization": 3.0, "features_weight": 4.0, "prior_weight": 2.0, "decay": 0.8}


def write_features(folder: Path, count: int, num_items: int) -> list[str]:
    paths = [folder / f"{number}.npy" for number in range(count)]
    for number, path in enumerate(paths):
        np.save(path, np.random.default_rng(number).normal(size=(num_items, 3 + number)).astype(np.float32))
        np.save(path.with_suffix(".ids.npy"), np.arange(1, num_items + 1))
    return [str(path) for path in paths]


def fitted_fease(split: Split, paths: list[str], **options: Any) -> FEASE:
    world = {"item_ids": np.arange(split.num_items + 1)}
    model = build(RECOMMENDERS["fease"], {"features": paths, **options}, world, "model")
    assert isinstance(model, FEASE)
    model.fit(split)
    return model.eval()


def assert_as_in_the_loop(split: Split, paths: list[str], **options: Any) -> None:
    features = [np.load(path).astype(np.float64) for path in paths]
    expected = [loops.fease_loop(train_lists(split), history, features, **options) for history in MEMORIES]
    scores = all_scores(fitted_fease(split, paths, **options), split, MEMORIES)
    torch.testing.assert_close(scores[:, 1:].double(), torch.tensor(expected)[:, 1:].double(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("modalities", [1, 2])
@pytest.mark.parametrize("changed", [{}, {"prior_weight": 0.0}, {"features_weight": 0.0}], ids=str)
def test_scores_are_those_of_the_loop(
    modalities: int, changed: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = small_split()
    assert (split.train_counts[1:] == 0).any()
    monkeypatch.setattr(ridge, "ROWS_AT_ONCE", 7)
    assert_as_in_the_loop(split, write_features(tmp_path, modalities, split.num_items), **{**OPTIONS, **changed})


def without_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fease, "add_features", lambda *values: None)


def without_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fease, "scale_columns_with_prior", lambda matrix, *values: ridge.scale_columns(matrix))


def unscaled_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fease.functional, "normalize", lambda rows, dim: rows)


@pytest.mark.parametrize("deviate", [without_features, without_prior, unscaled_features])
def test_a_deviation_is_found(
    deviate: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = small_split()
    deviate(monkeypatch)
    with pytest.raises(AssertionError):
        assert_as_in_the_loop(split, write_features(tmp_path, 1, split.num_items), **OPTIONS)


def test_without_both_weights_it_is_ease(tmp_path: Path) -> None:
    split = small_split()
    paths = write_features(tmp_path, 1, split.num_items)
    model = fitted_fease(split, paths, regularization=3.0, features_weight=0.0, prior_weight=0.0)
    torch.testing.assert_close(model.weights, fitted("ease", split, regularization=3.0).weights)


def test_new_items_are_ranked_by_their_features(tmp_path: Path) -> None:
    """A new item with the features of item 3 is found by users of item 3; EASE scores it 0."""
    split = small_split()
    (path,) = write_features(tmp_path, 1, split.num_items)
    new, other = (np.flatnonzero(split.train_counts[1:] == 0)[:2] + 1).tolist()
    features = np.load(path)
    features[new - 1] = features[2]
    np.save(path, features)
    scores = all_scores(fitted_fease(split, [path]), split, [[3]])[0]
    assert scores[new] > 0.1
    assert scores[new] > scores[other]
    assert all_scores(fitted("ease", split), split, [[3]])[0, new] == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"regularization": 0.0}, "regularization must be above 0"),
        ({"features_weight": -1.0}, "the weights at least 0"),
        ({"prior_weight": -1.0}, "the weights at least 0"),
        ({"decay": 2.0}, "decay above 0 and at most 1"),
        ({"features": []}, "at least one file"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], told: str, tmp_path: Path) -> None:
    split = small_split()
    with pytest.raises(InputError, match=told):
        fitted_fease(split, options.pop("features", write_features(tmp_path, 1, split.num_items)), **options)


def test_a_matrix_beyond_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = small_split()
    monkeypatch.setattr(fease, "available_memory", lambda: 100)
    with pytest.raises(InputError, match=r"model\.name is 'fease', which needs"):
        fitted_fease(split, write_features(tmp_path, 1, split.num_items))
