"""Rounded vectors against exact dot products, and the best items of large catalogues against all scores."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microlens.config.run_config import RunConfig
from microlens.data.new_items import NewItem
from microlens.data.prepare import prepare
from microlens.feed import scored_items, served_model
from microlens.feed.rounded_vectors import GROUP, RoundedVectors
from microlens.feed.scored_items import ScoredItems
from microlens.feed.served_model import ServedModel
from microlens.files.run_manifest import replace_text
from microlens.release.synthetic_interactions import write_interactions_only
from microlens.runs.added_items import EncodedItem
from microlens.runs.assembly import build_experiment
from microlens.runs.train import trainer_of

KEPT = 8


def bests(vectors: torch.Tensor, query: torch.Tensor, k: int, without: np.ndarray) -> list[int]:
    """The vectors with the ``k`` highest dot products, in 64 bits."""
    products = (vectors.double() @ query[0].double()).numpy()
    return sorted(set(range(len(vectors))) - set(without.tolist()), key=lambda row: -products[row])[:k]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    k=st.integers(1, 8),
    kind=st.sampled_from(
        ["even", "long and short", "one outlier each", "some zero", "nearly the same", "whole numbers"]
    ),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_the_highest_dot_products_are_among_the_candidates(seed: int, k: int, kind: str, scale: float) -> None:
    rng = np.random.default_rng(seed)
    size, dim = GROUP * k + int(rng.integers(0, 200)), int(rng.integers(2, 40))
    vectors = rng.normal(size=(size, dim))
    if kind == "long and short":
        vectors *= 10 ** rng.uniform(-6, 0, (size, 1))
    elif kind == "one outlier each":
        vectors[np.arange(size), rng.integers(0, dim, size)] *= 100
    elif kind == "some zero":
        vectors[rng.random(size) < 0.5] = 0
    elif kind == "nearly the same":
        vectors = vectors[:1] + 1e-5 * vectors
    found = torch.from_numpy((scale * vectors).astype(np.float32))
    query = torch.from_numpy(rng.normal(size=(1, dim)).astype(np.float32))
    without = np.array(bests(found, query, int(rng.integers(0, 20)), np.zeros(0, np.int64)), np.int64)
    later = int(rng.integers(0, size - GROUP * k + 1))
    of_all, grown = RoundedVectors.of(found, np.arange(size)), RoundedVectors.of(found, np.arange(size - later))
    value = float(found[rng.integers(size)] @ query[0])
    for rounded in (of_all, grown.with_vectors(found[size - later :])):
        candidates = rounded.candidates(query, k, without)
        assert set(bests(found, query, k, without)) <= set(candidates.tolist())
        assert (np.diff(candidates) > 0).all()
        check_above(rounded, found, query, value, without)


def check_above(
    rounded: RoundedVectors, vectors: torch.Tensor, query: torch.Tensor, value: float, without: np.ndarray
) -> None:
    """Those above a value are the certain ones and some of the uncertain ones."""
    products = (vectors.double() @ query[0].double()).numpy()
    products[without] = -np.inf
    certain, uncertain = rounded.above(query, value, without)
    assert (np.diff(uncertain) > 0).all()
    others = np.delete(products, uncertain)
    assert certain == np.count_nonzero(others > value)
    assert value not in others


@pytest.mark.parametrize("whole", [False, True], ids=["any numbers", "whole numbers, which rounding does not change"])
def test_few_of_many_items_are_candidates(whole: bool) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.integers(-127, 128, (80_000, 64)) if whole else rng.normal(size=(80_000, 64))
    vectors[:, 0] = 127 if whole else 0
    found, rows, nothing = torch.from_numpy(vectors.astype(np.float32)), np.arange(0, 80_000, 2), np.zeros(0, np.int64)
    rounded = RoundedVectors.of(found, rows)
    for query in torch.from_numpy(rng.normal(size=(40, 1, 64)).astype(np.float32)):
        candidates = rounded.candidates(query, 10, nothing)
        assert set(bests(found[rows], query, 10, nothing)) <= set(candidates.tolist())
        assert len(candidates) < 100
        value = float(found[rows[123]] @ query[0])
        check_above(rounded, found[rows], query, value, nothing)
        assert len(rounded.above(query, value, nothing)[1]) < 40_000 * (0.05 if whole else 0.15)


def test_long_vectors_do_not_blur_short_ones() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(64_000, 32)) * np.where(rng.random((64_000, 1)) < 0.05, 1000, 1)
    vectors[:, 0] = abs(vectors[:, 0])
    found, query = torch.from_numpy(vectors.astype(np.float32)), torch.zeros(1, 32)
    query[0, 0] = -1
    candidates = RoundedVectors.of(found, np.arange(64_000)).candidates(query, 10, np.zeros(0, np.int64))
    assert set(bests(found, query, 10, np.zeros(0, np.int64))) <= set(candidates.tolist())
    assert len(candidates) < 6000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over 2,000 items with random weights."""
    folder = tmp_path_factory.mktemp("large")
    write_interactions_only(folder / "release", users=500, items=2003, mean_length=20)
    prepare(folder / "release", folder / "dataset")
    config = RunConfig.model_validate(
        {
            "dataset": folder / "dataset",
            "output": folder / "run",
            "model": {"name": "sasrec", "dim": 24},
            "encoder": {"name": "id"},
            "train": {"device": "cpu"},
        }
    )
    config.output.mkdir()
    replace_text(config.output, "config.toml", config.toml())
    trainer_of(build_experiment(config))[0].save_best()
    return config.output


def quick(run: Path, monkeypatch: pytest.MonkeyPatch, ids: pl.Series | None = None) -> ServedModel:
    """A model that rounds its vectors."""
    monkeypatch.setattr(served_model, "_MANY", 500)
    monkeypatch.setattr(scored_items, "KEPT", KEPT)
    model = ServedModel.open(run)
    model = model.for_items(model.dataset.item_ids if ids is None else ids)
    assert model.rounded is not None
    return model


def histories_of(model: ServedModel, count: int) -> list[list[int]]:
    rng = np.random.default_rng(0)
    known = np.flatnonzero(model.rows)
    return [rng.choice(known, rng.integers(1, 20), replace=False).tolist() for _ in range(count)]


def check_best_items(model: ServedModel) -> None:
    """The kept items and scores are those that all scores give, to the last bit."""
    for history in histories_of(model, 20):
        assert model.best(history, KEPT) is not None
        found, expected = ScoredItems.of_model(model, history), ScoredItems.of(lambda: model.scores(history))  # noqa: B023
        np.testing.assert_array_equal(found.items, expected.items)
        np.testing.assert_array_equal(found.scores, expected.scores)
        assert not found.are_all
        for item in [0, history[0], *np.flatnonzero(model.rows)[[0, 7, -1]].tolist(), len(model.rows)]:
            assert found.place(item) == expected.place(item)


def test_the_best_of_many_items_are_those_of_recommend(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = quick(large, monkeypatch)
    check_best_items(model)
    ids = model.dataset.item_ids
    for history in histories_of(model, 10):
        listed = model.ranker.table(KEPT - 1, history=model.rows[history])
        scored = ScoredItems.of_model(model, history)
        assert [ids[item - 1] for item in scored.items.tolist()] == listed["item"].to_list()
        assert scored.scores.tolist() == listed["score"].to_list()


def test_uploads_are_ranked_with_many_items(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = quick(large, monkeypatch)
    vector = torch.randn(1, 24, generator=torch.Generator().manual_seed(0))
    added = [EncodedItem(NewItem(title="new"), vector), EncodedItem(NewItem(title="other"), -vector)]
    grown = model.with_uploads([added[0], int(model.rows.max()), 0, added[1]])
    assert len(grown.rows) == len(model.rows) + 4
    check_best_items(grown)
    assert grown.with_uploads([0]).rounded is grown.rounded
    first = {int(ScoredItems.of_model(grown, history).items[0]) for history in histories_of(model, 10)}
    assert first & {len(model.rows), len(model.rows) + 3}  # random vectors of the weights are much shorter


def test_many_items_of_another_dataset_are_ranked(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = ServedModel.open(large).dataset.item_ids
    model = quick(large, monkeypatch, pl.concat([ids[::2], pl.Series([10**6])]))
    assert (model.rows > 0).sum() <= 1002
    check_best_items(model)


def test_all_scores_are_computed_where_they_are_all_alike(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = quick(large, monkeypatch)
    model.ranker.catalogue = model.ranker.catalogue[:2][[0, *[1] * (len(model.ranker.catalogue) - 1)]]
    alike = model.for_items(model.dataset.item_ids)
    history = histories_of(alike, 1)[0]
    assert alike.best(history, KEPT) is None
    scored = ScoredItems.of_model(alike, history)
    np.testing.assert_array_equal(scored.items, ScoredItems.of(lambda: alike.scores(history)).items)
