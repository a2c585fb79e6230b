"""Models over graphs of similar features against derivations of their own, with planted deviations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from microlens.config.sections import TrainSection
from microlens.data.batches import ItemBatch
from microlens.errors import InputError
from microlens.recommenders import item_graph, lattice, mgcn
from microlens.recommenders.adjacency import Adjacency
from microlens.recommenders.freedom import FREEDOM, DegreeSensitiveEdges
from microlens.recommenders.graph import GraphRecommender
from microlens.training.step import TrainingStep
from tests.recommenders.test_multimodal_graphs import (
    EVERYONE,
    FROM_ZERO,
    PAIRS,
    Case,
    D,
    N,
    U,
    assert_as_derived,
    features_of,
    small_graph,
    state_of,
)
from tests.reference import feature_graphs as loops
from tests.reference.multimodal_graphs import Array, State
from tests.training.test_losses import batch_of

CASES: list[Case] = [
    ("freedom", 1, {"layers": 1, "neighbours": 3}),
    ("freedom", 2, {"layers": 2, "neighbours": 4, "item_layers": 2, "modality_weights": [0.1, 0.9]}),
    ("freedom", 3, {"layers": 3, "neighbours": 1, "item_layers": 0}),
    ("bm3", 1, {"layers": 1}),
    ("bm3", 2, {"layers": 2}),
    ("lattice", 1, {"layers": 1, "neighbours": 4}),
    ("lattice", 2, {"layers": 2, "neighbours": 3, "item_layers": 2, "frozen_share": 0.4}),
    ("mgcn", 1, {"layers": 1, "neighbours": 4}),
    ("mgcn", 2, {"layers": 2, "neighbours": 3, "item_layers": 2}),
    ("mgcn", 3, {"layers": 1, "neighbours": 2}),
]


def expected_vectors(case: Case, state: State, folder: Path, chosen_by: State | None = None) -> Array:
    name, modalities, options = case
    if name == "bm3":
        return loops.bm3_vectors(state, FROM_ZERO, **options)
    features = features_of(folder, modalities)
    if name == "lattice":
        defaults = {"layers": 2, "item_layers": 1, "frozen_share": 0.9}
        return loops.lattice_vectors(state, features, FROM_ZERO, **{**defaults, **options}, chosen_by=chosen_by)
    if name == "mgcn":
        behaviour, content = loops.mgcn_views(state, features, FROM_ZERO, **{"item_layers": 1, **options})
        return behaviour + content
    options = {"item_layers": 1, "modality_weights": [1 / modalities] * modalities, **options}
    assert name == "freedom"
    return loops.freedom_vectors(state, features, FROM_ZERO, **options)


def model_of(case: Case, folder: Path, **more: Any) -> GraphRecommender:
    name, modalities, options = case
    model = small_graph(name, folder, modalities, **{**options, **more})
    if name not in {"lattice", "mgcn"}:
        return model
    for graph, projection in zip(model.frozen_graphs, model.projections, strict=True):  # again, in double precision
        graph.weights = item_graph.similarity_graph(projection.features, options["neighbours"]).weights
    return model


@pytest.mark.parametrize("case", CASES, ids=str)
def test_vectors_are_those_of_the_derivation(case: Case, tmp_path: Path) -> None:
    model = model_of(case, tmp_path, **({"pruned": 0.0} if case[0] == "freedom" else {}))
    assert_as_derived(model, expected_vectors(case, state_of(model), tmp_path))


@pytest.mark.parametrize("case", [CASES[1], CASES[4], CASES[6], CASES[7], CASES[8]], ids=str)
def test_gradients_are_those_of_the_derivation(case: Case, tmp_path: Path) -> None:
    """Along a random direction of each parameter, by central differences of the derivation."""
    model = model_of(case, tmp_path)
    weights = torch.randn_like(model.node_vectors(EVERYONE)).detach()
    (model.node_vectors(EVERYONE) * weights).sum().backward()
    start = state_of(model)
    assert_gradients(model, lambda state: (expected_vectors(case, state, tmp_path, start) * weights.numpy()).sum())


def assert_gradients(model: GraphRecommender, expected: Callable[[State], float]) -> None:
    state = state_of(model)
    for name, parameter in model.named_parameters():
        direction = torch.randn_like(parameter)
        sums = [expected({**state, name: state[name] + step * direction.numpy()}) for step in (1e-6, -1e-6)]
        slope = torch.tensor((sums[0] - sums[1]) / 2e-6, dtype=torch.double)
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close((found * direction).sum(), slope, rtol=1e-4, atol=1e-6)


def test_the_loss_is_that_of_the_derivation(tmp_path: Path) -> None:
    """With its gradients, on the edges that the step draws."""
    options = {"layers": 2, "neighbours": 3, "item_layers": 1, "modality_weights": [0.3, 0.7]}
    model = model_of(("freedom", 2, options), tmp_path, pruned=0.5, side_weight=0.25)
    assert isinstance(model, FREEDOM)
    users, items = model.edges.users[[0, 2, 3, 7]], model.edges.items[[0, 2, 3, 7]]
    model.edges.draw = lambda: Adjacency((users, items), U, N)  # type: ignore[method-assign]
    kept = [(user, item - 1) for user, item in zip(users.tolist(), items.tolist(), strict=True)]
    triples = [(0, 1, 4), (1, 5, 0), (2, 7, 1)]
    step = TrainingStep(model, torch.ones(N + 1).long(), settings=TrainSection(loss="bpr", num_negatives=1)).double()

    def derived(state: State) -> float:
        features = features_of(tmp_path, 2)
        vectors = loops.freedom_vectors(state, features, kept, **options)  # type: ignore[arg-type]
        return loops.freedom_loss(state, features, vectors, triples, 0.25)

    loss = step.train()(batch_of_triples(triples))
    torch.testing.assert_close(loss, torch.tensor(derived(state_of(model)), dtype=torch.double))
    loss.backward()
    assert_gradients(model, derived)


@pytest.mark.parametrize("modalities", [1, 2])
def test_the_loss_of_bm3_is_that_of_the_derivation(modalities: int, tmp_path: Path) -> None:
    """With its gradients, which do not reach what is predicted."""
    options = {"layers": 2, "alignment_weight": 1.5, "regularization": 0.3}
    model = small_graph("bm3", tmp_path, modalities, dropout=0.0, **options)
    fixed, targets = state_of(model), [(0, 1), (1, 5), (2, 7)]

    def derived(state: State) -> float:
        features = features_of(tmp_path, modalities)
        return loops.bm3_loss(state, fixed, features, FROM_ZERO, targets, **options)  # type: ignore[arg-type]

    step = TrainingStep(model, torch.ones(N + 1).long(), settings=TrainSection(loss="own")).double()
    loss = step.train()(batch_of_triples([(*target, 0) for target in targets]))
    torch.testing.assert_close(loss, torch.tensor(derived(fixed), dtype=torch.double))
    loss.backward()
    assert_gradients(model, derived)


def test_what_bm3_predicts_is_dropped_out_in_training_alone(tmp_path: Path) -> None:
    model = small_graph("bm3", tmp_path, 1, dropout=0.5)
    users, items = torch.tensor([0, 1, 2]), torch.tensor([2, 6, 8])
    torch.testing.assert_close(model.own_loss(users, items), model.own_loss(users, items))
    torch.testing.assert_close(model.train().node_vectors(EVERYONE), model.eval().node_vectors(EVERYONE))
    model.train()
    assert model.own_loss(users, items) != model.own_loss(users, items)


def test_only_models_with_a_loss_of_their_own_can_train_with_it(tmp_path: Path) -> None:
    model = small_graph("freedom", tmp_path, 1, neighbours=2)
    with pytest.raises(InputError, match=r"train\.loss is 'own', but the model defines no loss"):
        TrainingStep(model, torch.ones(N + 1).long(), settings=TrainSection(loss="own"))


def batch_of_triples(triples: list[tuple[int, int, int]]) -> Any:
    """The batch in which each user has the target item and one negative, items from 0."""
    batch = batch_of(torch.tensor([[item + 1] for triple in triples for item in triple[1:]]))
    users = torch.tensor([user for user, _, _ in triples])
    values = {
        "users": users,
        "sequence": batch.sequence[::2],
        "slots": batch.slots[::2],
        "own": batch.own[::2],
        "negatives": batch.slots[1::2],
        "last_only": True,
        "num_targets": len(triples),
    }
    return type(batch)(**{**batch.__dict__, **values})


def shares_drawn(edges: DegreeSensitiveEdges, draws: int = 2000) -> Tensor:
    """How often each edge is kept."""
    torch.manual_seed(0)
    return torch.bincount(torch.cat([edges.chosen() for _ in range(draws)]), minlength=len(edges.users)) / draws


@pytest.mark.parametrize(("pruned", "kept"), [(0.88, 1), (0.77, 2)])
def test_edges_are_drawn_in_proportion_to_their_weights(pruned: float, kept: int) -> None:
    pairs = (torch.tensor([user for user, _ in PAIRS]), torch.tensor([item for _, item in PAIRS]))
    edges = DegreeSensitiveEdges(Adjacency(pairs, U, N), U, pruned)
    assert edges.kept == kept
    chances = [
        (len({i for u, i in PAIRS if u == user}) * len({u for u, i in PAIRS if i == item})) ** -0.5
        for user, item in zip(edges.users.tolist(), edges.items.tolist(), strict=True)
    ]
    expected = torch.tensor(loops.inclusion(chances, kept))
    assert len(edges.draw().neighbours) == 2 * kept
    torch.testing.assert_close(shares_drawn(edges), expected, rtol=0, atol=0.03)
    edges.chances.fill_(1.0)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(shares_drawn(edges), expected, rtol=0, atol=0.03)


def test_training_leaves_edges_out_and_ranking_does_not(tmp_path: Path) -> None:
    model = model_of(("freedom", 1, {"neighbours": 2}), tmp_path, pruned=0.8)
    whole = model_of(("freedom", 1, {"neighbours": 2}), tmp_path, pruned=0.0)
    torch.testing.assert_close(model.node_vectors(EVERYONE), whole.node_vectors(EVERYONE))
    first, second = (model.train().node_vectors(EVERYONE) for _ in range(2))
    assert not torch.equal(first, second)
    assert not torch.equal(first, whole.node_vectors(EVERYONE))


def unnormalised(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    model.item_graph.weights *= 1.5  # type: ignore[operator]


def without_itself(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    graph = model.get_submodule("item_graph")
    graph.weights = torch.where(graph.neighbours == torch.arange(N)[:, None], 0.0, graph.weights)


def unsimilar(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    graph = model.get_submodule("item_graph")
    graph.neighbours = graph.neighbours.flip(0)


def one_layer_less(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    model.layers -= 1  # type: ignore[operator,assignment]


def without_residual(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    monkeypatch.setattr(Tensor, "index_add", lambda self, *values: self)


def without_predictor(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    model.predictor = torch.nn.Identity()  # type: ignore[assignment]


def unnormalised_length(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    monkeypatch.setattr(lattice.functional, "normalize", lambda rows, dim: rows)


def unnormalised_weights(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    monkeypatch.setattr(lattice, "normalised", lambda weights, near: weights)


def negative_cosines(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    monkeypatch.setattr(Tensor, "relu", lambda self: self)


def equal_modalities(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    monkeypatch.setattr(Tensor, "softmax", lambda self, dim: torch.full_like(self, 1 / len(self)))


def frozen_alone(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    model.frozen_share = 1.0  # type: ignore[assignment]


def unpurified(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    for purifier in model.purifiers:
        purifier.register_forward_hook(lambda layer, read, found: torch.full_like(found, 50.0))


def unpropagated(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    monkeypatch.setattr(item_graph, "propagated", lambda vectors, *rest: vectors)


def ungated(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    for gate in model.fuser.gates:  # type: ignore[union-attr]
        gate.register_forward_hook(lambda layer, read, found: torch.zeros_like(found))


def undivided(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    model.fuser.register_forward_hook(lambda layer, read, found: found * 3 / 2)


def users_by_mean(monkeypatch: pytest.MonkeyPatch, model: GraphRecommender) -> None:
    sums = mgcn.weighted_sums
    monkeypatch.setattr(mgcn, "weighted_sums", lambda rows, near, weights, begins: sums(rows, near, weights**2, begins))


Deviation = Callable[[pytest.MonkeyPatch, GraphRecommender], None]
DEVIATIONS: list[tuple[int, Deviation]] = [
    (1, unnormalised),
    (1, without_itself),
    (1, unsimilar),
    (1, one_layer_less),
    (4, one_layer_less),
    (4, without_residual),
    (4, without_predictor),
    (6, one_layer_less),
    (6, unnormalised_length),
    (6, unnormalised_weights),
    (6, negative_cosines),
    (6, equal_modalities),
    (6, frozen_alone),
    (8, one_layer_less),
    (8, equal_modalities),
    (8, unpurified),
    (8, ungated),
    (8, undivided),
    (8, users_by_mean),
    (7, users_by_mean),
    (7, unpurified),
    (7, unpropagated),
    (8, unpropagated),
]


@pytest.mark.parametrize(("case", "deviate"), DEVIATIONS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_deviation_is_found(case: int, deviate: Deviation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(CASES[case], tmp_path)
    expected = torch.from_numpy(expected_vectors(CASES[case], state_of(model), tmp_path))
    torch.testing.assert_close(model.node_vectors(EVERYONE), expected)
    deviate(monkeypatch, model)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(model.node_vectors(EVERYONE), expected)


@pytest.mark.parametrize("rows", [3, 1024])
@pytest.mark.parametrize("count", [1, 4, 11])
def test_nearest_items_are_those_of_the_loop(rows: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_graph, "ROWS_AT_ONCE", rows)
    features = torch.randn(11, 4, dtype=torch.double)
    found = item_graph.nearest_items(features, count)
    expected = torch.tensor([loops.nearest(features.numpy(), item, count) for item in range(11)])
    assert torch.equal(found, expected)
    similar = [[max(0.0, loops.cosine(features[i].numpy(), features[j].numpy())) for j in found[i]] for i in range(11)]
    torch.testing.assert_close(item_graph.cosines(features, found), torch.tensor(similar, dtype=torch.double))


def test_neighbours_are_at_most_the_items() -> None:
    for count in (0, 12):
        with pytest.raises(ValueError, match=f"neighbours = {count}: it must be between 1 and"):
            item_graph.nearest_items(torch.randn(11, 4), count)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 0}, "layers = 0"),
        ({"pruned": 1.0}, "pruned = 1"),
        ({"side_weight": -1.0}, "side_weight = -1"),
        ({"neighbours": N + 1}, "neighbours = 9"),
        ({"modality_weights": [0.5, 0.6]}, "modality_weights"),
        ({"modality_weights": [1.0]}, "modality_weights"),
    ],
)
def test_options_of_freedom_are_checked(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        small_graph("freedom", tmp_path, 2, **{"neighbours": 3, **options})


def test_the_learned_graph_is_chosen_once_an_epoch(tmp_path: Path) -> None:
    """In training, neighbours stay those of the epoch's start when weights change; the next epoch has others."""
    case = CASES[6]
    model = model_of(case, tmp_path)
    start = state_of(model.train())
    model.node_vectors(EVERYONE)
    with torch.no_grad():
        for parameter in model.projections.parameters():
            parameter.normal_()
    state = state_of(model)
    old, new = (torch.from_numpy(expected_vectors(case, state, tmp_path, chosen_by)) for chosen_by in (start, state))
    assert not torch.equal(old, new)
    torch.testing.assert_close(model.node_vectors(EVERYONE), old)
    resumed = model_of(case, tmp_path).train()
    resumed.load_state_dict(model.state_dict())
    torch.testing.assert_close(resumed.node_vectors(EVERYONE), old)
    torch.testing.assert_close(model.eval().node_vectors(EVERYONE), new)
    torch.testing.assert_close(model.train().node_vectors(EVERYONE), new)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 0}, "layers = 0"),
        ({"item_layers": 0}, "item_layers = 0"),
        ({"frozen_share": 1.0}, "frozen_share = 1"),
    ],
)
def test_options_of_lattice_are_checked(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        small_graph("lattice", tmp_path, 1, **options)


@pytest.mark.parametrize("modalities", [1, 2])
def test_the_penalty_of_mgcn_is_that_of_the_derivation(modalities: int, tmp_path: Path) -> None:
    """With its gradients."""
    options = {"layers": 1, "neighbours": 3, "item_layers": 1}
    model = model_of(("mgcn", modalities, options), tmp_path, contrastive_weight=0.5, regularization=0.3)
    users, items = [4, 0, 3], [2, 6, 7, 8]

    def derived(state: State) -> float:
        views = loops.mgcn_views(state, features_of(tmp_path, modalities), FROM_ZERO, **options)
        return loops.mgcn_penalty(*views, [*users], [U + item - 1 for item in items], 0.5, 0.3)

    penalty = model.train().penalty(torch.tensor([4, 0, 0, 3]), torch.tensor(items))
    torch.testing.assert_close(penalty, torch.tensor(derived(state_of(model)), dtype=torch.double))
    penalty.backward()
    assert_gradients(model, derived)


@pytest.mark.parametrize("option", ["layers", "item_layers", "contrastive_weight", "regularization"])
def test_options_of_mgcn_are_checked(option: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{option} = -1"):
        small_graph("mgcn", tmp_path, 1, **{option: -1})


@pytest.mark.parametrize("option", ["layers", "alignment_weight", "regularization"])
def test_options_of_bm3_are_checked(option: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{option} = -1"):
        small_graph("bm3", tmp_path, 1, **{option: -1})


def test_items_without_interactions_are_ranked_through_their_neighbours(tmp_path: Path) -> None:
    """Item 8 has no interactions; its vector moves with the id of its neighbour."""
    model = model_of(("freedom", 1, {"neighbours": 2}), tmp_path)
    near = loops.nearest(features_of(tmp_path, 1)[0], 7, 2)[1]
    before = model.encode_items(ItemBatch(items=torch.tensor([8])))
    with torch.no_grad():
        model.get_parameter("item_encoder.table")[near + 1] += 1.0
    after = model.encode_items(ItemBatch(items=torch.tensor([8])))
    torch.testing.assert_close(after - before, torch.full((1, D), 0.5, dtype=torch.double))
    assert functional.cosine_similarity(before, after).item() < 1
