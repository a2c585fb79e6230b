"""What every recommender must do."""

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from microlens.building import build
from microlens.data.batches import ItemBatch
from microlens.encoders.id import IdEncoder
from microlens.recommenders import RECOMMENDERS
from microlens.recommenders.base import Recommender
from microlens.recommenders.fitted import Fitted

N, D, L, B = 30, 8, 6, 5
FITTED = [name for name, model in RECOMMENDERS.items() if isinstance(model, type) and issubclass(model, Fitted)]
VECTOR_MODELS = [name for name in RECOMMENDERS if name not in FITTED]  # test_baselines.py runs over the others
TRAINABLE = [name for name in VECTOR_MODELS if name not in {"popularity", "content_knn"}]

Build = Callable[[], Recommender]


def build_recommender(name: str, folder: Path) -> Recommender:
    torch.manual_seed(1)
    options = {"features": str(write_features(folder))} if name == "content_knn" else {}
    world = {
        "dim": D,
        "num_items": N,
        "num_users": B + 2,  # two without a train item
        "train_pairs": (torch.arange(3 * B) % B, torch.arange(3 * B) % N + 1),
        "history_length": L,
        "train_counts": torch.arange(N + 1),
        "item_encoder": IdEncoder(num_items=N, dim=D),
        "item_ids": np.arange(N + 1),
    }
    return build(RECOMMENDERS[name], options, world, "model")


def write_features(folder: Path) -> Path:
    """Random features of the N items."""
    np.save(folder / "features.npy", np.random.default_rng(0).normal(size=(N, D)).astype(np.float32))
    np.save(folder / "features.ids.npy", np.arange(1, N + 1))
    return folder / "features.npy"


def histories() -> Tensor:
    """One user of each length from 0 to L - 1 is the smallest; the last is full."""
    history = torch.zeros(B, L, dtype=torch.long)
    for user, length in enumerate([1, 2, 3, 5, L]):
        history[user, L - length :] = torch.randperm(N)[:length] + 1
    return history


def encode(model: Recommender, history: Tensor, users: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Catalogue with a zero row for padding, and the states of ``users``, by default the first ones."""
    users = torch.arange(len(history)) if users is None else users
    vectors = model.encode_items(ItemBatch(items=torch.arange(1, N + 1)))
    catalogue = torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])
    return catalogue, model.encode_users(users, history, catalogue[history])


@pytest.fixture(params=VECTOR_MODELS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Recommender:
    return build_recommender(request.param, tmp_path).eval()


def test_shapes(model: Recommender) -> None:
    catalogue, states = encode(model, histories())
    assert states.shape[:2] == (B, L)
    assert states.shape[2] == catalogue.shape[1] or not model.dot_product
    assert model.score(states[:, -1], catalogue).shape == (B, N + 1)


def test_scores_of_items_of_ones_own_are_those_among_all(model: Recommender) -> None:
    catalogue, states = encode(model, histories())
    items = torch.randint(1, N + 1, (B, 4))
    expected = model.score(states[:, -1], catalogue).gather(1, items)
    torch.testing.assert_close(model.score_each(states[:, -1], catalogue[items]), expected)


def test_scores_without_gradients_are_the_same(model: Recommender) -> None:
    catalogue, states = encode(model, histories())
    expected = model.score(states[:, -1], catalogue)
    with torch.no_grad():
        torch.testing.assert_close(model.score(states[:, -1], catalogue), expected)


def test_the_future_does_not_leak(model: Recommender) -> None:
    """Replacing later vectors by noise leaves earlier states as they were; a constant shift would hide in LayerNorm."""
    history = histories()
    catalogue, _ = encode(model, history)
    vectors = catalogue[history]
    for cut in range(1, L):
        noisy = vectors.clone()
        noisy[:, cut:] = torch.randn_like(noisy[:, cut:]) * 3
        before, after = (model.encode_users(torch.arange(B), history, values)[:, :cut] for values in (vectors, noisy))
        real = history[:, :cut] > 0
        torch.testing.assert_close(before[real], after[real], rtol=0, atol=0)


def test_padding_does_not_matter(model: Recommender) -> None:
    history = histories()
    catalogue, _ = encode(model, history)
    vectors = catalogue[history]
    noisy = torch.where((history > 0)[..., None], vectors, torch.randn_like(vectors) * 3)
    first, second = (model.encode_users(torch.arange(B), history, values) for values in (vectors, noisy))
    real = history > 0
    torch.testing.assert_close(first[real], second[real], rtol=0, atol=1e-6)


def test_the_amount_of_padding_does_not_matter(model: Recommender) -> None:
    """A history gives the same states however many empty positions stand before it."""
    history = histories()
    _, states = encode(model, history)
    for user, length in enumerate((history > 0).sum(1).tolist()):
        for padding in range(L - length):
            row = history[user : user + 1, L - length - padding :]
            _, alone = encode(model, row, torch.tensor([user]))
            torch.testing.assert_close(alone[:, padding:], states[user : user + 1, L - length :], rtol=0, atol=1e-6)


def test_users_without_history_do_not_disturb(model: Recommender) -> None:
    history = histories()
    empty = torch.zeros(2, L, dtype=torch.long)
    catalogue, expected = encode(model, history)
    nobody = torch.tensor([B, B + 1])
    among_others = torch.cat([empty[:1], history, empty[:1]]), torch.cat([nobody[:1], torch.arange(B), nobody[1:]])
    for read, users in ((empty, nobody), among_others):
        states = encode(model, read, users)[1]
        last = model.last_states(users, read, catalogue[read])
        assert states.isfinite().all()
        assert last.isfinite().all()
    torch.testing.assert_close(states[1:-1, -1], expected[:, -1], rtol=0, atol=1e-6)
    torch.testing.assert_close(last[1:-1], expected[:, -1], rtol=0, atol=1e-6)


def test_a_batch_equals_one_by_one(model: Recommender) -> None:
    history = histories()
    catalogue, states = encode(model, history)
    for user in range(B):
        row = history[user : user + 1]
        alone = model.encode_users(torch.tensor([user]), row, catalogue[row])
        torch.testing.assert_close(alone[:, -1], states[user : user + 1, -1], rtol=0, atol=1e-5)


def test_the_last_states_are_those_at_the_last_item(model: Recommender) -> None:
    history = histories()
    catalogue, states = encode(model, history)
    last = model.last_states(torch.arange(B), history, catalogue[history])
    torch.testing.assert_close(last, states[:, -1], rtol=0, atol=1e-6)


def test_items_depend_on_themselves_alone(model: Recommender) -> None:
    together = model.encode_items(ItemBatch(items=torch.tensor([3, 7, 9])))
    alone = model.encode_items(ItemBatch(items=torch.tensor([7])))
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-6)


def test_eval_mode_is_repeatable(model: Recommender) -> None:
    history = histories()
    torch.testing.assert_close(encode(model, history)[1], encode(model, history)[1], rtol=0, atol=0)


def test_a_state_dict_brings_everything_back(
    model: Recommender, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    name = request.node.callspec.params["model"]
    other = build_recommender(name, tmp_path).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter))
    other.load_state_dict(model.state_dict())
    history = histories()
    torch.testing.assert_close(encode(other, history)[1], encode(model, history)[1], rtol=0, atol=0)


@pytest.mark.parametrize("name", TRAINABLE)
def test_gradients_reach_every_parameter(name: str, tmp_path: Path) -> None:
    model = build_recommender(name, tmp_path).train()
    catalogue, states = encode(model, histories())
    model.score(states[:, -1], catalogue).square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def ring_walks(rng: np.random.Generator) -> list[list[int]]:
    """Users walk along a ring of items: the next item is always known, and no other guess ever is."""
    starts, lengths = rng.integers(0, N, 400), rng.integers(6, 13, 400)
    return [((start + np.arange(length)) % N + 1).tolist() for start, length in zip(starts, lengths, strict=True)]


def tastes(rng: np.random.Generator) -> list[list[int]]:
    """Users have ten items of the fifteen of their kind, in any order: five are left, and any may be the target."""
    kinds = rng.integers(0, N // 15, 400)
    return [(15 * kind + rng.permutation(15)[:10] + 1).tolist() for kind in kinds]


@pytest.mark.parametrize("name", TRAINABLE)
def test_learns_a_world_whose_answer_is_known(name: str, make_dataset: Callable[[list[list[int]]], Path]) -> None:
    from microlens.config.run_config import RunConfig
    from microlens.runs.train import train

    model = RECOMMENDERS[name]
    in_order = getattr(model, "examples", "") == "sequences" and name != "youtube"  # which reads a mean
    world = ring_walks if in_order else tastes
    dataset = make_dataset(world(np.random.default_rng(0)))
    without_dropout = {"dropout": 0.0} if "dropout" in inspect.signature(model).parameters else {}
    config = RunConfig.model_validate(
        {
            "dataset": dataset,
            "output": dataset.parent / "run",
            "model": {"name": name, "dim": 32, **without_dropout},
            "encoder": {"name": "id"},
            "train": {"epochs": 25, "batch_size": 64, "lr": 5e-3, "select": "NDCG@10", "device": "cpu"},
        }
    )
    report = train(config)
    if in_order:
        assert report.metrics["test"]["all"]["NDCG@10"] > 0.95
    else:
        assert report.metrics["test"]["all"]["HR@10"] > 0.95
