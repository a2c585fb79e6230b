"""Recommenders that are fitted in closed form or by counting: loop twins, the contract of fitting, published rows."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from microlens.building import build
from microlens.config.run_config import RunConfig
from microlens.data.batches import ItemBatch
from microlens.data.interactions import Interactions
from microlens.data.protocol import Protocol
from microlens.data.split import Part, Split, make_split
from microlens.errors import InputError
from microlens.evaluation.metrics import Ranks, all_metrics
from microlens.evaluation.ranking import rank_of_target
from microlens.recommenders import RECOMMENDERS
from microlens.recommenders.base import Recommender
from microlens.recommenders.ease import check_memory
from microlens.recommenders.fitted import Fitted
from microlens.release.pairs import read_pairs
from microlens.runs.assembly import open_experiment
from microlens.runs.recommend import Ranker
from microlens.runs.run import load
from microlens.runs.train import train
from microlens.testing import worlds
from microlens.testing.models import build_recommender
from microlens.training import checkpoint
from tests.conftest import random_sequences
from tests.data.interactions import interactions_of_pairs
from tests.recommenders.test_contract import FITTED, FROM_THE_LIBRARY, READ_FEATURES, requires_the_library
from tests.reference import baselines as loops

MakeDataset = Callable[[list[list[int]]], Path]
MEMORIES = [[], [3], [5, 2], [1, 8, 4, 2], [7, 6, 5, 4, 3, 2]]  # histories; what lies beyond N is cut off


def small_split(seed: int = 0, users: int = 40, items: int = 24) -> Split:
    """Random users; the targets of the first never occur in the train part."""
    sequences = random_sequences(users, items, seed)
    sequences[0][-2:] = [items + 1, items + 2]
    offsets = np.cumsum([0, *map(len, sequences)])
    flat = np.concatenate(sequences)
    ids, numbers = np.unique(flat, return_inverse=True)
    interactions = Interactions(
        offsets=offsets,
        items=(numbers + 1).astype(np.int32),
        times=np.arange(len(flat)),
        user_ids=np.arange(1, users + 1),
        item_ids=np.concatenate([[0], ids]),
    )
    return make_split(interactions, Protocol())


def train_lists(split: Split) -> list[list[int]]:
    return [
        split.sequences[start : end - 2].tolist()
        for start, end in zip(split.offsets[:-1], split.offsets[1:], strict=True)
    ]


def fitted(name: str, split: Split, **options: Any) -> Fitted:
    torch.manual_seed(1)
    model = build(RECOMMENDERS[name], options, {"dim": 8}, "model")
    assert isinstance(model, Fitted)
    model.fit(split)
    return model.eval()


def all_scores(model: Recommender, split: Split, histories: list[list[int]], length: int = 10) -> Tensor:
    """(Q, N+1), through the calls that the evaluation makes; user q has history q."""
    padded = torch.zeros(len(histories), length, dtype=torch.long)
    for row, history in zip(padded, histories, strict=True):
        row[length - len(history) :] = torch.tensor(history)
    vectors = model.encode_items(ItemBatch(items=torch.arange(1, split.num_items + 1)))
    catalogue = torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])
    states = model.last_states(torch.arange(len(padded)), padded, catalogue[padded]).float()
    return model.score(states, catalogue)


@pytest.fixture(params=[name for name in FITTED if name not in READ_FEATURES])
def name(request: pytest.FixtureRequest) -> str:
    requires_the_library(request.param)
    return str(request.param)


TWINS: dict[str, tuple[Callable[..., list[float]], dict[str, Any]]] = {
    "markov": (loops.markov_loop, {}),
    "co_visitation": (
        loops.co_visitation_loop,
        {"gap_decay": 0.7, "source_power": 0.4, "target_power": 0.2, "recency_decay": 0.5, "last": 4},
    ),
    "ease": (loops.ease_loop, {"regularization": 3.0, "decay": 0.8}),
}


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_the_loop(twin: str, seed: int) -> None:
    loop, options = TWINS[twin]
    split = small_split(seed)
    assert (split.train_counts[1:] == 0).any()
    never = int(np.flatnonzero(split.train_counts[1:] == 0)[0]) + 1
    histories = [[item for item in history if item <= split.num_items] for history in [*MEMORIES, [never], [2, never]]]
    expected = [loop(train_lists(split), history, split.num_items, **options) for history in histories]
    scores = all_scores(fitted(twin, split, **options), split, histories)
    torch.testing.assert_close(scores[:, 1:].double(), torch.tensor(expected)[:, 1:].double(), rtol=1e-4, atol=1e-7)


def test_ease_in_blocks_is_ease(monkeypatch: pytest.MonkeyPatch) -> None:
    split = small_split()
    whole = fitted("ease", split)
    monkeypatch.setattr("microlens.recommenders.ridge.ROWS_AT_ONCE", 5)
    torch.testing.assert_close(whole.weights, fitted("ease", split).weights)


@pytest.mark.parametrize("decay", [0.6, 1.0])
def test_content_scores_are_those_of_the_loop(tmp_path: Path, decay: float) -> None:
    features = np.random.default_rng(1).normal(size=(12, 5))
    np.save(tmp_path / "f.npy", features)
    np.save(tmp_path / "f.ids.npy", np.arange(1, 13))
    options = {"features": str(tmp_path / "f.npy"), "decay": decay}
    model = build(RECOMMENDERS["content_knn"], options, {"item_ids": np.arange(13)}, "model")
    vectors = model.encode_items(ItemBatch(items=torch.arange(1, 13)))
    for history in MEMORIES:
        padded = torch.tensor([[0] * (7 - len(history)) + history])
        read = torch.cat([torch.zeros(1, 5), vectors])[padded]
        scores = model.score(model.last_states(torch.tensor([0]), padded, read), vectors)[0]
        expected = torch.tensor(loops.content_knn_loop(features, history, decay=decay)[1:])
        torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)


def test_als_solves_for_the_user_of_the_history() -> None:
    requires_the_library("als")
    split = small_split()
    model = fitted("als", split, regularization=0.3, alpha=5.0)
    factors = model.factors[1:].double().numpy()
    expected = [loops.als_loop(factors, history, regularization=0.3, alpha=5.0) for history in MEMORIES]
    scores = all_scores(model, split, MEMORIES)
    torch.testing.assert_close(scores[:, 1:].double(), torch.tensor(expected)[:, 1:].double(), rtol=1e-3, atol=1e-4)


def test_item_neighbours_are_the_similarities_of_the_library() -> None:
    requires_the_library("item_knn")
    split = small_split()
    model = fitted("item_knn", split, similarity="cosine", neighbours=split.num_items)
    liked = np.zeros((split.num_users, split.num_items + 1))
    for user, items in enumerate(train_lists(split)):
        liked[user, items] = 1
    lengths = np.maximum(np.linalg.norm(liked, axis=0), 1e-12)
    cosine = (liked / lengths).T @ (liked / lengths)
    expected = np.stack([cosine[history].sum(0) for history in MEMORIES])
    scores = all_scores(model, split, MEMORIES)
    torch.testing.assert_close(scores[:, 1:].double(), torch.tensor(expected)[:, 1:], rtol=1e-5, atol=1e-6)


def test_another_models_checkpoint_is_refused(tmp_path: Path) -> None:
    tensors = checkpoint.with_prefix("model", fitted("ease", small_split()).state_dict())
    with pytest.raises(InputError, match="another model"):
        checkpoint.load_model(build(RECOMMENDERS["markov"], {}, {}, "model"), tensors, tmp_path)


def test_states_at_every_position_are_those_of_the_history_so_far(name: str) -> None:
    split = small_split()
    model = fitted(name, split)
    history = torch.tensor([[0, 0, 3, 1, 7], [2, 4, 6, 8, 10]])
    users, vectors = torch.arange(2), history[..., None].float()
    states = model.encode_users(users, history, vectors)
    catalogue = torch.arange(split.num_items + 1)[:, None].float()
    for end in range(1, 6):
        so_far = model.last_states(users, history[:, :end], vectors[:, :end])
        expected = model.score(so_far, catalogue)
        torch.testing.assert_close(model.score(states[:, end - 1], catalogue), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("ease", {"regularization": 0.0}, "regularization must be above 0"),
        ("ease", {"decay": 1.5}, "at most 1"),
        ("ease", {"lambda": 50.0}, "model.lambda is unknown"),
        ("co_visitation", {"gap_decay": 0.0}, "above 0"),
        ("co_visitation", {"last": -1}, "must be at least 0"),
        ("co_visitation", {"source_power": -1.0}, "at least 0"),
        ("markov", {"order": 2}, "model.order is unknown"),
        ("item_knn", {"neighbours": 0}, "at least 1"),
        ("item_knn", {"similarity": "jaccard"}, "model.similarity is 'jaccard'"),
        ("als", {"alpha": 0.5}, "alpha must be at least 1"),
        ("als", {"iterations": 0}, "iterations"),
        ("bpr_mf", {"learning_rate": 0.0}, "learning_rate above 0"),
        ("content_knn", {}, "model.features is missing"),
        ("content_knn", {"features": "nowhere.npy"}, "nowhere.npy does not exist"),
        ("content_knn", {"features": "nowhere.npy", "decay": 0.0}, "above 0"),
    ],
)
def test_bad_options_are_refused(model: str, options: dict[str, Any], told: str) -> None:
    requires_the_library(model)
    with pytest.raises(InputError, match=told):
        build(RECOMMENDERS[model], options, {"dim": 8, "item_ids": np.arange(5)}, "model")


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("als", {"alpha": 1e30}, "the factors of als became NaN or infinite; choose a smaller alpha or regularization"),
        ("bpr_mf", {"learning_rate": 1e30}, "the factors of bpr_mf became NaN or infinite; choose a smaller learning"),
    ],
)
def test_factors_that_diverge_are_told(name: str, options: dict[str, Any], told: str) -> None:
    pytest.importorskip("implicit", reason="implicit is not installed (make setup)")
    model = build_recommender({"name": name, "dim": 4, **options}, worlds.small_split())
    with pytest.raises(InputError, match=told):
        model.fit(worlds.small_split())


@pytest.mark.parametrize("model", sorted(FROM_THE_LIBRARY))
def test_without_the_library_a_sentence_says_what_to_install(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("implicit", "implicit.cpu.als", "implicit.cpu.bpr", "implicit.nearest_neighbours"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"{model} needs the implicit library; .*'microlens\[baselines\]'"):
        build(RECOMMENDERS[model], {}, {"dim": 8}, "model")


def test_a_matrix_beyond_the_memory_of_the_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microlens.recommenders.ease.available_memory", lambda: 100)
    with pytest.raises(InputError, match=r"model.name is 'ease', which needs 0\.0 GiB"):
        fitted("ease", small_split())


def test_the_matrix_and_the_memory_are_named() -> None:
    check_memory(2**30, 2**30, 10)
    with pytest.raises(InputError, match=r"needs 1024\.0 GiB .* 300,000 x 300,000 items; 2\.0 GiB are available"):
        check_memory(2**40, 2**31, 300_000)


def config_of(dataset: Path, name: str, **protocol: int) -> RunConfig:
    return RunConfig.model_validate(
        {
            "dataset": dataset,
            "output": dataset.parent / name,
            "protocol": protocol,
            "model": {"name": name, "dim": 8},
            "train": {"device": "cpu"},
        }
    )


def test_a_run_is_fitted_once_and_opened_as_it_was(
    name: str, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(make_dataset(random_sequences(60, 30)), name)
    report = train(config)
    assert report.cost["seconds"] > 0
    monkeypatch.setattr(RECOMMENDERS[name], "fit", None)
    (config.output / "report.json").unlink()
    again = train(config)  # killed between fitting and reporting
    assert again.metrics == report.metrics
    assert again.cost["seconds"] == report.cost["seconds"]
    assert load(config.output).evaluate()["metrics"] == report.metrics


def test_a_user_known_by_number_is_recommended_for_by_number(make_dataset: MakeDataset) -> None:
    requires_the_library("bpr_mf")
    config = config_of(make_dataset(random_sequences(60, 30)), "bpr_mf")
    train(config)
    run = open_experiment(config.output)
    scores = run.model.scores(torch.tensor([[4]]))[0]
    found = load(config.output).recommend([5], k=3)  # user ids begin at 1
    for item, score in found.select("item", "score").iter_rows():
        number = int(np.searchsorted(run.item_ids(), item))
        assert score == pytest.approx(float(scores[number]))
    with pytest.raises(InputError, match="give a user of the dataset"):
        load(config.output).recommend(history=[1, 2])
    with pytest.raises(InputError, match="give a user of the dataset"):
        Ranker(run).scores(np.array([1, 2]))


def test_what_comes_next_is_found_where_it_is_known(make_dataset: MakeDataset) -> None:
    """Users walk along a ring of items."""
    rng = np.random.default_rng(0)
    starts, lengths = rng.integers(0, 30, 300), rng.integers(6, 13, 300)
    dataset = make_dataset(
        [((s + np.arange(length)) % 30 + 1).tolist() for s, length in zip(starts, lengths, strict=True)]
    )
    for name in ("markov", "co_visitation"):
        assert train(config_of(dataset, name)).metrics["test"]["all"]["HR@10"] == 1.0


# Real data


@cache
def real_split(folder: Path, protocol: Protocol) -> Split:
    return make_split(interactions_of_pairs(read_pairs(folder / "microlens-50k" / "MicroLens-50k_pairs.tsv")), protocol)


@torch.inference_mode()
def ranks_of(model: Recommender, split: Split, part: Part) -> Ranks:
    """The rank of every target, in larger pieces than the evaluation's."""
    catalogue = torch.arange(split.num_items + 1)
    vectors = model.encode_items(ItemBatch(items=catalogue))
    ranks = []
    for users in np.array_split(np.arange(split.num_users), split.num_users // 256):
        history, targets, seen = (
            torch.from_numpy(values.astype(np.int64))
            for values in (split.inputs(part, users), split.targets(part)[users], split.history(part, users))
        )
        states = model.last_states(torch.from_numpy(users), history, vectors[history]).float()
        ranks.append(rank_of_target(model.score(states, vectors), targets, seen))
    return torch.cat(ranks).numpy()


def fitted_on(split: Split, name: str, options: dict[str, Any], dim: int = 64) -> Recommender:
    requires_the_library(name)
    torch.manual_seed(42)
    world = {"dim": dim, "train_counts": torch.from_numpy(split.train_counts)}
    model = build(RECOMMENDERS[name], options, world, "model")
    if isinstance(model, Fitted):
        model.fit(split)
    return model.eval()


def percent(ranks: Ranks) -> dict[str, float]:
    return {metric: 100 * value for metric, value in all_metrics(ranks).items()}


# The reference's models of whole profiles read all 12 items; co-visitation the last 10.
ROWS: list[Any] = [
    pytest.param("popularity", {}, 64, 10, "Popularity", "train counts", 5e-5),
    pytest.param(
        "co_visitation",
        {"recency_decay": 0.6, "last": 10},
        64,
        10,
        "Co-visitation, recency-weighted last 10",
        "{'dec': 0.9",
        5e-5,
    ),
    pytest.param("item_knn", {}, 64, 12, "implicit BM25Recommender", "K=100", 5e-5),
    pytest.param("item_knn", {"similarity": "cosine"}, 64, 12, "implicit CosineRecommender", "K=100", 0.01),
    pytest.param("als", {}, 64, 12, "implicit ALS", "factors=64,it=12,reg=.05,alpha=20", 0.1),
    pytest.param(
        "als", {}, 256, 12, "implicit ALS", "factors=256,it=12,reg=.05,alpha=20", 0.1, marks=pytest.mark.published
    ),
    pytest.param(
        "bpr_mf",
        {"iterations": 200, "learning_rate": 0.1, "regularization": 0.005},
        64,
        10,
        "implicit BPR",
        "factors=64,lr=.1,reg=.005,it=200",
        0.1,
        marks=pytest.mark.published,
    ),
]
EASE_ROWS = [("EASE^R", "lambda=50 ", 1.0)] + [
    ("EASE^R recency-weighted history", f"lambda=50, decay {decay}", decay) for decay in (0.8, 0.6)
]


def reference_row(shared_data: Path, model: str, settings: str) -> dict[str, Any]:
    rows = json.loads((shared_data.parent / "reference" / "baselines-microlens-50k.json").read_text())["rows"]
    row: dict[str, Any]
    (row,) = [row for row in rows if row["model"] == model and row["settings"].startswith(settings) and "test" in row]
    return row


def assert_is_the_row(model: Recommender, split: Split, row: dict[str, Any], tolerance: float) -> None:
    for part in ("valid", "test"):
        assert percent(ranks_of(model, split, part)) == pytest.approx(row[part], abs=tolerance)


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "dim", "read", "row", "settings", "tolerance"), ROWS)
def test_microlens_50k_gives_the_reference_rows(
    shared_data: Path,
    name: str,
    options: dict[str, Any],
    dim: int,
    read: int,
    row: str,
    settings: str,
    tolerance: float,
) -> None:
    split = real_split(shared_data, Protocol(max_history=read))
    model = fitted_on(split, name, options, dim)
    assert_is_the_row(model, split, reference_row(shared_data, row, settings), tolerance)


@pytest.mark.real_data
@pytest.mark.slow
def test_microlens_50k_gives_the_reference_row_of_markov(shared_data: Path) -> None:
    """The reference added a popularity too small for float32 to tell counts apart, so equal counts stayed ties.

    That is a backoff for items that never came next. Here popularity decides among equal counts, too, and finds more.
    """
    split = real_split(shared_data, Protocol())
    model = fitted_on(split, "markov", {})
    row = reference_row(shared_data, "Markov order 1 (last item, counts + pop backoff)", "forward gap 1")
    for part in ("valid", "test"):
        ours = percent(ranks_of(model, split, part))
        assert all(ours[metric] > value + 0.4 for metric, value in row[part].items())
    model.popularity = model.popularity * 1e-9
    assert_is_the_row(model, split, row, 5e-4)


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.published
def test_microlens_50k_gives_the_reference_rows_of_ease(shared_data: Path) -> None:
    split = real_split(shared_data, Protocol())
    model = fitted_on(split, "ease", {"regularization": 50.0})
    for row, settings, decay in EASE_ROWS:
        model.decay = decay
        assert_is_the_row(model, split, reference_row(shared_data, row, settings), 0.1)


def a_step_later(split: Split) -> Split:
    """A split whose validation target is the test target, with the validation item in the train part."""
    last = split.offsets[1:]
    sequences = np.insert(split.sequences, last, split.sequences[last - 1])
    more = np.arange(len(split.offsets))
    ends = {"train_ends": split.valid_ends + more[:-1], "valid_ends": last + more[:-1]}
    return replace(split, sequences=sequences, offsets=split.offsets + more, **ends)


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "valid", "test", "tolerance"),
    [
        ("popularity", (0.00718, 0.00279), (0.00540, 0.00214), 5e-6),
        pytest.param("als", (0.06826, 0.026506), (0.06154, 0.023592), 0.002, marks=pytest.mark.published),
        ("item_knn", (0.08328, 0.037136), (0.07822, 0.033383), 0.0005),
    ],
)
def test_numbers_that_others_published_on_whole_histories(
    shared_data: Path, name: str, valid: tuple[float, float], test: tuple[float, float], tolerance: float
) -> None:
    """They fitted on the validation items, too, before ranking test targets: so say their numbers of warm targets."""
    split = real_split(shared_data, Protocol(max_length=219, max_history=218))
    assert (split.num_users, split.num_items, split.num_events) == (50_000, 19_220, 359_708)
    for part, published, num_warm in ((split, valid, 49_156), (a_step_later(split), test, 49_424)):
        targets = part.targets("valid")
        assert np.count_nonzero(part.train_counts[targets]) == num_warm
        metrics = all_metrics(ranks_of(fitted_on(part, name, {}), part, "valid"))
        assert (metrics["HR@20"], metrics["NDCG@20"]) == pytest.approx(published, abs=tolerance)
