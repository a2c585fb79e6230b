"""VBPR, MMGCN and GRCN against derivations of their own, with planted deviations, and what only they promise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from microlens.building import build
from microlens.config.sections import TrainSection
from microlens.data.batches import ItemBatch
from microlens.encoders.id import IdEncoder
from microlens.errors import InputError
from microlens.recommenders import RECOMMENDERS
from microlens.recommenders.adjacency import Hop, weighted_sums
from microlens.recommenders.base import Recommender
from microlens.recommenders.graph import GraphRecommender
from microlens.recommenders.grcn import GRCN
from microlens.recommenders.vbpr import VBPR
from microlens.training.step import TrainingStep
from tests.reference import multimodal_graphs as loops
from tests.training.test_losses import batch_of

U, N, D = 6, 8, 4
PAIRS = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 6), (3, 1), (3, 6), (3, 6), (4, 7), (0, 7)]  # user 5, items 4, 5, 8 alone
FROM_ZERO = [(user, item - 1) for user, item in PAIRS]
IDS = np.array([0, 21, 4, 9, 33, 12, 5, 40, 8])
SIZES = [5, 3, 6]  # of the features of each modality
EVERYONE = torch.arange(U + N)

Case = tuple[str, int, dict[str, Any]]  # a model, its number of modalities, options
CASES: list[Case] = [
    ("mmgcn", 0, {"layers": 1}),
    ("mmgcn", 1, {"layers": 3}),
    ("mmgcn", 2, {"layers": 2, "combination": "sum"}),
    ("mmgcn", 3, {"layers": 3}),
    ("mmgcn", 3, {"layers": 3, "combination": "sum"}),
    ("grcn", 0, {"layers": 3, "routings": 2}),
    ("grcn", 1, {"layers": 1, "routings": 0}),
    ("grcn", 2, {"layers": 2, "routings": 3}),
    ("grcn", 3, {"layers": 3, "routings": 2}),
]


def write_modalities(folder: Path, count: int) -> list[str]:
    """Random features, whose rows are in another order than the items."""
    paths = []
    for number, size in enumerate(SIZES[:count]):
        path = folder / f"{number}.npy"
        np.save(path, np.random.default_rng(number).normal(size=(N, size)).astype(np.float32))
        np.save(path.with_suffix(".ids.npy"), np.sort(IDS[1:]))
        paths.append(str(path))
    return paths


def features_of(folder: Path, modalities: int) -> list[loops.Array]:
    """The features of items 1 to N of each modality, from the files."""
    matrices = []
    for number in range(modalities):
        row_of = {int(item): row for row, item in enumerate(np.load(folder / f"{number}.ids.npy"))}
        matrices.append(np.load(folder / f"{number}.npy").astype(np.float64)[[row_of[int(item)] for item in IDS[1:]]])
    return matrices


def small(name: str, folder: Path, modalities: int, **options: Any) -> Recommender:
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
        if isinstance(model, GRCN):
            model.base_values.sub_(1.0)  # around 0, so that some edges are pruned
    return model.eval()


def small_graph(name: str, folder: Path, modalities: int, **options: Any) -> GraphRecommender:
    model = small(name, folder, modalities, **options)
    assert isinstance(model, GraphRecommender)
    return model


def state_of(model: nn.Module) -> dict[str, loops.Array]:
    return {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}


def expected_vectors(case: Case, state: loops.State, folder: Path) -> loops.Array:
    name, modalities, options = case
    features = features_of(folder, modalities)
    if name == "mmgcn":
        concat = options.get("combination", "concat") == "concat"
        return loops.mmgcn_vectors(state, features, FROM_ZERO, options["layers"], concat=concat)
    return loops.grcn_vectors(state, features, FROM_ZERO, options["layers"], options["routings"])


def assert_as_derived(model: GraphRecommender, expected: loops.Array) -> None:
    """Vectors of chosen nodes in all modes, and the scores of all items for all users."""
    wanted = torch.from_numpy(expected)
    users, items = torch.tensor([5, 0, 0, 3]), torch.tensor([8, 2, 6, 2])
    torch.testing.assert_close(model.propagate(users, items), (wanted[users], wanted[U + items - 1]))
    torch.testing.assert_close(model.train().node_vectors(EVERYONE), wanted)
    with torch.no_grad():
        vectors = model.eval().encode_items(ItemBatch(items=torch.arange(1, N + 1)))
        scores = model.score(model.last_states(torch.arange(U), users, users), vectors)
    torch.testing.assert_close(scores, wanted[:U] @ wanted[U:].T)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_vectors_are_those_of_the_derivation(case: Case, tmp_path: Path) -> None:
    name, modalities, options = case
    model = small_graph(name, tmp_path, modalities, **options)
    assert_as_derived(model, expected_vectors(case, state_of(model), tmp_path))


@pytest.mark.parametrize("case", [CASES[3], CASES[4], CASES[7]], ids=str)
def test_gradients_are_those_of_the_derivation(case: Case, tmp_path: Path) -> None:
    """Along a random direction of each parameter, by central differences of the derivation."""
    name, modalities, options = case
    model = small_graph(name, tmp_path, modalities, **options)
    weights = torch.randn_like(model.node_vectors(EVERYONE)).detach()
    (model.node_vectors(EVERYONE) * weights).sum().backward()
    state = state_of(model)
    for parameter_name, parameter in model.named_parameters():
        direction = torch.randn_like(parameter)
        assert parameter.grad is not None
        sums = []
        for step in (1e-6, -1e-6):
            moved = {**state, parameter_name: state[parameter_name] + step * direction.numpy()}
            sums.append(float((expected_vectors(case, moved, tmp_path) * weights.numpy()).sum()))
        expected = torch.tensor((sums[0] - sums[1]) / 2e-6, dtype=torch.double)
        torch.testing.assert_close((parameter.grad * direction).sum(), expected, rtol=1e-4, atol=1e-6)


def unnormalised(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    monkeypatch.setattr(functional, "normalize", lambda vectors: vectors)


def ids_unnormalised(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    normalize = functional.normalize
    monkeypatch.setattr(functional, "normalize", lambda rows: rows if len(rows) == U + N else normalize(rows))


def without_own_bias(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    for convolution in model.get_submodule("convolutions").children():
        convolution.get_submodule("own").bias = None


def without_combined_bias(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    for convolution in model.get_submodule("convolutions").children():
        convolution.get_submodule("combined").bias = None


def without_projection_bias(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    model.get_submodule("modalities.0.projection").bias = None


def summed_modalities(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    monkeypatch.setattr(torch.Tensor, "mean", torch.Tensor.sum)


def summed_neighbours(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    def sums(hop: Hop, vectors: torch.Tensor) -> torch.Tensor:
        return weighted_sums(vectors, hop.senders, torch.ones(len(hop.senders)), hop.begins)

    monkeypatch.setattr(Hop, "means", sums)


def without_ids(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    monkeypatch.setattr(
        "microlens.recommenders.mmgcn.id_vectors", lambda *values: torch.zeros(U + N, D, dtype=torch.double)
    )


def attention_without_routed(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    monkeypatch.setattr(GRCN, "_content", lambda self, vectors, shares: self.edges.sums(vectors, shares))


def routed_without_attention(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    monkeypatch.setattr(GRCN, "_content", lambda self, vectors, shares: vectors)


def unpruned(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    monkeypatch.setattr(torch.Tensor, "relu", lambda self: self)


def mean_confidence(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    monkeypatch.setattr(torch.Tensor, "amax", torch.Tensor.mean)


def confidence_of_the_receiver(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    assert isinstance(model, GRCN)
    monkeypatch.setattr(
        GRCN,
        "_weights",
        lambda self, shares: (shares * self.base_values.index_select(1, self.edges.receivers)).amax(0).relu(),
    )


Deviation = Callable[[pytest.MonkeyPatch, GraphRecommender], None]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "mmgcn": [{"layers": 2}, {"layers": 2, "combination": "sum"}],
    "grcn": [{"layers": 2, "routings": 2}],
}
DEVIATIONS: list[tuple[str, Deviation]] = [
    ("mmgcn", unnormalised),
    ("mmgcn", without_own_bias),
    ("mmgcn", without_combined_bias),
    ("mmgcn", without_projection_bias),
    ("mmgcn", summed_modalities),
    ("mmgcn", summed_neighbours),
    ("mmgcn", without_ids),
    ("grcn", unnormalised),
    ("grcn", ids_unnormalised),
    ("grcn", without_projection_bias),
    ("grcn", attention_without_routed),
    ("grcn", routed_without_attention),
    ("grcn", unpruned),
    ("grcn", mean_confidence),
    ("grcn", confidence_of_the_receiver),
]


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize(("name", "deviate"), DEVIATIONS, ids=lambda value: getattr(value, "__name__", value))
def test_a_deviation_is_found(
    name: str, deviate: Deviation, modalities: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in OPTIONS[name]:
        model = small_graph(name, tmp_path, modalities, **options)
        expected = expected_vectors((name, modalities, options), state_of(model), tmp_path)
        with monkeypatch.context() as patched:
            deviate(patched, model)
            with pytest.raises(AssertionError):
                assert_as_derived(model, expected)


def test_the_combinations_differ(tmp_path: Path) -> None:
    case = ("mmgcn", 2, {"layers": 2, "combination": "sum"})
    model = small_graph("mmgcn", tmp_path, 2, layers=2, combination="sum")
    expected = expected_vectors(case, state_of(model), tmp_path)
    for convolution in model.get_submodule("convolutions").children():
        half = convolution.get_submodule("combined")
        assert isinstance(half, nn.Linear)
        convolution.concat = True  # type: ignore[assignment]
        half.weight = nn.Parameter(torch.cat([half.weight, torch.eye(D, dtype=torch.double)], 1))
    assert_as_derived(model, expected)  # W3 next to the unit matrix adds x-hat
    with torch.no_grad():
        half.weight[:, D:] = 0.0
    with pytest.raises(AssertionError):
        assert_as_derived(model, expected)


@pytest.mark.parametrize("modalities", [0, 1, 3])
@pytest.mark.parametrize("name", ["mmgcn", "grcn"])
def test_the_penalty_is_that_of_the_derivation(name: str, modalities: int, tmp_path: Path) -> None:
    """By itself, and as part of the loss of a training step."""
    model = small(name, tmp_path, modalities, regularization=0.25)
    users, items = [4, 0, 0], [2, 6, 7, 8]
    derived = loops.mmgcn_penalty if name == "mmgcn" else loops.grcn_penalty
    expected = 0.25 * derived(state_of(model), users, items, modalities)
    torch.testing.assert_close(
        model.penalty(torch.tensor(users), torch.tensor(items)), torch.tensor(expected, dtype=torch.double)
    )
    batch = batch_of(torch.tensor([[2], [6], [8]]))
    batch = type(batch)(**{**batch.__dict__, "last_only": True, "num_targets": 3})
    counts = torch.tensor([0, 1, 6, 2, 1, 3, 1, 4, 1])
    step = TrainingStep(model, counts, settings=TrainSection()).double()
    penalised = step(batch)
    model.regularization = 0.0  # type: ignore[assignment]
    of_batch = 0.25 * derived(state_of(model), batch.users.tolist(), [2, 6, 8], modalities)
    torch.testing.assert_close(penalised - step(batch), torch.tensor(of_batch, dtype=torch.double))


def test_vbpr_scores_are_those_of_the_derivation(tmp_path: Path) -> None:
    model = small("vbpr", tmp_path, 1)
    expected = torch.from_numpy(loops.vbpr_scores(state_of(model), features_of(tmp_path, 1)[0]))
    torch.testing.assert_close(scores_of(model), expected)
    weights = torch.randn_like(expected)
    (scores_of(model) * weights).sum().backward()
    for name, parameter in model.named_parameters():
        direction = torch.randn_like(parameter)
        moved = {**state_of(model), name: state_of(model)[name] + direction.numpy()}  # linear in each parameter
        change = torch.from_numpy(loops.vbpr_scores(moved, features_of(tmp_path, 1)[0])) - expected
        assert parameter.grad is not None
        torch.testing.assert_close((parameter.grad * direction).sum(), (change * weights).sum())


def scores_of(model: Recommender) -> Tensor:
    vectors = model.encode_items(ItemBatch(items=torch.arange(1, N + 1)))
    return model.score(model.last_states(torch.arange(U), torch.zeros(U, 1), torch.zeros(U, 1, D)), vectors)


def one_user_vector(model: VBPR) -> None:
    model.user_tastes = model.user_ids


def visual_bias(model: VBPR) -> None:
    model.get_submodule("item_encoder.projection").bias = nn.Parameter(torch.ones(D // 2, dtype=torch.double))


def exchanged_halves(model: VBPR) -> None:
    model.user_ids, model.user_tastes = model.user_tastes, model.user_ids


@pytest.mark.parametrize("deviate", [one_user_vector, visual_bias, exchanged_halves])
def test_a_deviation_of_vbpr_is_found(deviate: Callable[[VBPR], None], tmp_path: Path) -> None:
    model = small("vbpr", tmp_path, 1)
    assert isinstance(model, VBPR)
    expected = torch.from_numpy(loops.vbpr_scores(state_of(model), features_of(tmp_path, 1)[0]))
    deviate(model)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(scores_of(model), expected)


def test_vbpr_halves_an_even_dim_alone(tmp_path: Path) -> None:
    model = small("vbpr", tmp_path, 1)
    assert {name: tuple(parameter.shape) for name, parameter in model.named_parameters()} == {
        "user_ids": (U, D // 2),
        "user_tastes": (U, D // 2),
        "item_encoder.table": (N + 1, D // 2),
        "item_encoder.projection.weight": (D // 2, SIZES[0]),
    }
    (path,) = write_modalities(tmp_path, 1)
    with pytest.raises(InputError, match="dim = 5: it must be even"):
        build(RECOMMENDERS["vbpr"], {"features": path}, {**SIZED, "dim": 5}, "model")


SIZED = {"num_users": U, "num_items": N, "item_ids": IDS}


@pytest.fixture(params=["mmgcn", "grcn"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_edges_from_senders_below_zero_are_cut_off(tmp_path: Path) -> None:
    model = small_graph("grcn", tmp_path, 1)
    assert isinstance(model, GRCN)
    with torch.no_grad():
        model.base_values[0].abs_()
        before = model.node_vectors(EVERYONE)[:, :D]
        model.base_values[0, :U] = -1.0  # no user sends, so items keep their ids
        vectors = model.node_vectors(EVERYONE)
    ids = functional.normalize(model.item_encoder(ItemBatch(items=torch.arange(1, N + 1))))
    torch.testing.assert_close(vectors[U:, :D], ids)
    assert not torch.equal(before[U:], vectors[U:, :D])


@pytest.mark.parametrize("modalities", [0, 2])
def test_gradients_reach_every_parameter(name: str, modalities: int, tmp_path: Path) -> None:
    model = small_graph(name, tmp_path, modalities).train()
    with torch.no_grad():
        if isinstance(model, GRCN):
            model.base_values.abs_()
    vectors = model.node_vectors(EVERYONE)
    (vectors * torch.randn_like(vectors)).sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.any(), parameter_name


def test_dropout_works_in_training_alone(name: str, tmp_path: Path) -> None:
    plain, dropping = small_graph(name, tmp_path, 1), small_graph(name, tmp_path, 1, dropout=0.5)
    torch.testing.assert_close(dropping.node_vectors(EVERYONE), plain.node_vectors(EVERYONE))
    assert not torch.equal(dropping.train().node_vectors(EVERYONE), plain.node_vectors(EVERYONE))


def test_no_layers_and_negative_weights_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="layers = 0"):
        small(name, tmp_path, 0, layers=0)
    with pytest.raises(InputError, match=r"regularization = -0\.5"):
        small(name, tmp_path, 0, regularization=-0.5)
