"""MMGCN and GRCN against loops over their equations, and what only they promise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from microlens.building import build
from microlens.data.batches import ItemBatch
from microlens.encoders.id import IdEncoder
from microlens.errors import InputError
from microlens.recommenders import RECOMMENDERS
from microlens.recommenders.graph import GraphRecommender
from microlens.recommenders.grcn import GRCN, Edges, edge_products
from microlens.recommenders.mmgcn import MMGCN
from tests.reference import multimodal_graphs as loops

U, N, D = 6, 8, 4
PAIRS = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 6), (3, 1), (3, 6), (3, 6), (4, 7), (0, 7)]  # user 5, items 4, 5, 8 alone
NODES = [(user, U + item - 1) for user, item in PAIRS]
IDS = np.array([0, 21, 4, 9, 33, 12, 5, 40, 8])
SIZES = [5, 3]  # of features, the first and the second modality


def write_modalities(folder: Path, count: int) -> list[str]:
    """Random features, whose rows are in another order than the items."""
    paths = []
    for number, size in enumerate(SIZES[:count]):
        path = folder / f"{number}.npy"
        np.save(path, np.random.default_rng(number).normal(size=(N, size)).astype(np.float32))
        np.save(path.with_suffix(".ids.npy"), np.sort(IDS[1:]))
        paths.append(str(path))
    return paths


def small(name: str, folder: Path, modalities: int, **options: Any) -> GraphRecommender:
    torch.manual_seed(3)
    world = {
        "dim": D,
        "num_users": U,
        "num_items": N,
        "item_ids": IDS,
        "item_encoder": IdEncoder(num_items=N, dim=D),
        "train_pairs": (torch.tensor([user for user, _ in PAIRS]), torch.tensor([item for _, item in PAIRS])),
    }
    if modalities:
        paths = write_modalities(folder, modalities)
        options["features"] = paths if modalities > 1 else paths[0]
    model = build(RECOMMENDERS[name], options, world, "model").double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.7)
    assert isinstance(model, GraphRecommender)
    return model.eval()


def ids_of(model: GraphRecommender) -> list[Tensor]:
    items = model.item_encoder(ItemBatch(items=torch.arange(1, N + 1)))
    return [*model.get_parameter("user_table"), *items]


def starts_of(model: GraphRecommender, folder: Path, modalities: int) -> list[list[Tensor]]:
    """Users' vectors and projected features of each modality, from the files."""
    starts = []
    for number in range(modalities):
        matrix = torch.from_numpy(np.load(folder / f"{number}.npy")).double()
        row_of = {int(item): row for row, item in enumerate(np.load(folder / f"{number}.ids.npy"))}
        module = model.get_submodule(f"modalities.{number}")
        projection = module.get_submodule("projection")
        assert isinstance(projection, nn.Linear)
        items = [projection.weight @ matrix[row_of[int(item)]] + projection.bias for item in IDS[1:]]
        starts.append([*module.get_parameter("user_table"), *items])
    return starts


def expected_of(model: GraphRecommender, folder: Path, modalities: int, layers: int, routings: int) -> Tensor:
    ids, starts = ids_of(model), starts_of(model, folder, modalities)
    if isinstance(model, MMGCN):
        state = dict(model.named_parameters())
        matrices = [
            tuple(state[f"convolutions.{number}.{name}.weight"] for name in ("received", "own", "combined"))
            for number in range(max(1, modalities) * layers)
        ]
        by_modality = [matrices[begin : begin + layers] for begin in range(0, len(matrices), layers)]
        return torch.stack(loops.mmgcn_loop(starts or [ids], ids, NODES, by_modality))
    assert isinstance(model, GRCN)
    tastes = [[*vectors[:U], *map(loops.leaky, vectors[U:])] for vectors in starts] or [ids]
    found = loops.grcn_loop(
        tastes, ids, U, NODES, model.base_values, layers=layers, routings=routings, beside=bool(modalities)
    )
    return torch.stack(found)


@pytest.fixture(params=["mmgcn", "grcn"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("modalities", [0, 1, 2])
@pytest.mark.parametrize("layers", [1, 3])
def test_vectors_are_those_of_the_loop(name: str, modalities: int, layers: int, tmp_path: Path) -> None:
    more = {"routings": 2} if name == "grcn" else {}
    model = small(name, tmp_path, modalities, layers=layers, **more)
    expected = expected_of(model, tmp_path, modalities, layers, routings=2)
    users, items = torch.tensor([5, 0, 0, 3]), torch.tensor([8, 2, 6, 2])
    wanted = (expected[users], expected[U + items - 1])
    torch.testing.assert_close(model.propagate(users, items), wanted)
    torch.testing.assert_close(model.train().propagate(users, items), wanted)
    with torch.no_grad():
        torch.testing.assert_close(model.eval().propagate(users, items), wanted)


def test_edges_from_senders_below_zero_are_cut_off(tmp_path: Path) -> None:
    model = small("grcn", tmp_path, 1)
    assert isinstance(model, GRCN)
    with torch.no_grad():
        model.base_values[0].abs_()
        before = model.node_vectors(torch.arange(U + N))[:, :D]
        model.base_values[0, :U] = -1.0  # no user sends, so items keep their ids
    vectors = model.node_vectors(torch.arange(U + N))
    torch.testing.assert_close(vectors[U:, :D], torch.stack(ids_of(model)[U:]))
    assert not torch.equal(before[U:], vectors[U:, :D])
    torch.testing.assert_close(vectors, expected_of(model, tmp_path, 1, layers=2, routings=3))


@pytest.mark.parametrize("modalities", [0, 2])
def test_gradients_reach_every_parameter(name: str, modalities: int, tmp_path: Path) -> None:
    model = small(name, tmp_path, modalities).train()
    with torch.no_grad():
        if isinstance(model, GRCN):
            model.base_values.abs_()
    vectors = model.node_vectors(torch.arange(U + N))
    (vectors * torch.randn_like(vectors)).sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.any(), parameter_name


def test_gradients_of_edge_products_are_numerically_right() -> None:
    pairs = (torch.tensor([user for user, _ in PAIRS]), torch.tensor([item for _, item in PAIRS]))
    edges = Edges(pairs, U, N).double()
    users, items = (torch.randn(count, 70, dtype=torch.double, requires_grad=True) for count in (U, N))
    expected = torch.stack([users[user] @ items[node - U] for user, node in sorted(set(NODES))])
    torch.testing.assert_close(edge_products(users, items, edges), expected)
    assert torch.autograd.gradcheck(lambda a, b: edge_products(a, b, edges), (users, items))


def test_dropout_works_in_training_alone(name: str, tmp_path: Path) -> None:
    nodes = torch.arange(U + N)
    plain, dropping = small(name, tmp_path, 1), small(name, tmp_path, 1, dropout=0.5)
    torch.testing.assert_close(dropping.node_vectors(nodes), plain.node_vectors(nodes))
    assert not torch.equal(dropping.train().node_vectors(nodes), plain.node_vectors(nodes))


def test_no_layers_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="layers = 0"):
        small(name, tmp_path, 0, layers=0)
