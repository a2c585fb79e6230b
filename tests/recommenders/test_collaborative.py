"""DSSM, LightGCN, NFM, DeepFM and YouTube against their loop twins, and what only they promise."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from microlens.building import build
from microlens.config.run_config import RunConfig
from microlens.data.batches import ItemBatch
from microlens.encoders.id import IdEncoder
from microlens.errors import InputError
from microlens.recommenders import RECOMMENDERS, adjacency
from microlens.recommenders.base import Recommender
from microlens.recommenders.lightgcn import LightGCN
from microlens.runs.assembly import build_experiment
from microlens.runs.run import load
from microlens.runs.train import train
from microlens.training.step import TrainingStep
from microlens.training.trainer import Trainer
from tests.conftest import random_sequences
from tests.reference import collaborative as loops
from tests.training.test_losses import batch_of

MakeDataset = Callable[[list[list[int]]], Path]
U, N, D, L = 7, 9, 4, 5
PAIRS = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 5), (3, 0), (3, 5), (3, 5), (4, 6), (5, 1)]  # user 6, items 4, 8 alone
HISTORIES = [[3], [5, 2], [1, 8, 4, 2], [9, 7, 6, 5, 3]]


def small(name: str, **options: Any) -> Recommender:
    torch.manual_seed(3)
    world = {
        "dim": D,
        "num_users": U,
        "num_items": N,
        "history_length": L,
        "item_encoder": IdEncoder(num_items=N, dim=D),
        "train_pairs": (torch.tensor([user for user, _ in PAIRS]), torch.tensor([item + 1 for _, item in PAIRS])),
    }
    model = build(RECOMMENDERS[name], options, world, "model").double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def vectors_of(model: Recommender) -> Tensor:
    vectors = model.encode_items(ItemBatch(items=torch.arange(1, N + 1)))
    return torch.cat([vectors.new_zeros(1, D), vectors])


def states_of(model: Recommender, histories: list[list[int]]) -> Tensor:
    padded = torch.tensor([[0] * (L - len(history)) + history for history in histories])
    return model.last_states(torch.arange(len(padded)), padded, vectors_of(model)[padded])


@pytest.mark.parametrize("name", ["nfm", "deepfm"])
def test_factorization_scores_are_those_of_the_loop(name: str) -> None:
    model = small(name)
    vectors, state = vectors_of(model), dict(model.named_parameters())

    def loop(history: list[Tensor], candidate: Tensor) -> Tensor:
        if name == "deepfm":
            return loops.deepfm_loop(history, candidate, state, L)
        mean, variance = torch.zeros(D).double(), torch.ones(D).double()
        return loops.nfm_loop(history, candidate, state, mean, variance, model.get_submodule("norm").eps)

    expected = torch.stack(
        [torch.stack([loop([vectors[item] for item in history], vectors[c]) for c in range(1, N + 1)])
         for history in HISTORIES]
    )  # fmt: skip
    states = states_of(model, HISTORIES)
    torch.testing.assert_close(model.score(states, vectors[1:]), expected)
    with torch.no_grad():
        torch.testing.assert_close(model.score(states, vectors[1:]), expected.detach())
    each = model.score_each(states, vectors[torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8]])])
    torch.testing.assert_close(each, torch.stack([expected[q, 2 * q : 2 * q + 2] for q in range(4)]))


def test_nfm_normalises_over_all_pairs_of_the_batch() -> None:
    model = small("nfm").train()
    vectors, state = vectors_of(model), dict(model.named_parameters())
    pooled = torch.stack(
        [loops.bi_interaction_loop([vectors[item] for item in [*history, c]])
         for history in HISTORIES for c in range(1, N + 1)]
    )  # fmt: skip
    mean, variance = pooled.mean(0), pooled.var(0, unbiased=False)
    eps = model.get_submodule("norm").eps
    expected = loops.nfm_loop([vectors[3]], vectors[2], state, mean, variance, eps)
    torch.testing.assert_close(model.score(states_of(model, HISTORIES), vectors[1:])[0, 1], expected)


def test_nfm_trains_as_with_torchs_batchnorm_over_all_pairs() -> None:
    """Scores, gradients and running statistics, where normalisation is multiplied into the weights."""
    model = small("nfm").train()
    norm = model.get_submodule("norm")
    assert isinstance(norm, nn.BatchNorm1d)
    reference = copy.deepcopy(norm)
    states, vectors = states_of(model, HISTORIES), vectors_of(model)[1:]
    total, among = states[:, None].chunk(2, 2)
    pooled = among + total * vectors
    hidden, output = model.get_submodule("hidden"), model.get_submodule("output")
    expected = output(hidden(reference(pooled.flatten(0, 1))).relu()).view(len(HISTORIES), N)
    items = [[1, 2], [3, 4], [5, 6], [7, 8]]
    torch.testing.assert_close(model.score(states, vectors), expected)
    for name, values in reference.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), values)
    trained = [*hidden.parameters(), *output.parameters(), *model.item_encoder.parameters()]
    weights = torch.randn_like(expected)
    scores = model.score(states, vectors)
    found, wanted = (
        torch.autograd.grad((values * weights).sum(), [*trained, *normed.parameters()], retain_graph=True)
        for values, normed in ((scores, norm), (expected, reference))
    )
    torch.testing.assert_close(found, wanted)

    each = pooled.gather(1, torch.tensor(items)[..., None].expand(-1, -1, D))
    reference.load_state_dict(norm.state_dict())
    expected = output(hidden(reference(each.flatten(0, 1))).relu()).view(len(HISTORIES), 2)
    torch.testing.assert_close(model.score_each(states, vectors[torch.tensor(items)]), expected)
    for name, values in reference.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), values)


@pytest.mark.parametrize("name", ["nfm", "deepfm"])
@pytest.mark.parametrize("numbers", [1, 3 * D, 2 * 4 * D])
def test_scores_do_not_depend_on_the_size_of_tiles(name: str, numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(name)
    states, vectors = states_of(model, HISTORIES), vectors_of(model)
    expected = model.score(states, vectors)
    monkeypatch.setattr("microlens.recommenders.factorization.ITEMS_IN_TILE", 4)
    monkeypatch.setattr("microlens.recommenders.factorization.NUMBERS_IN_TILE", {"cpu": numbers})
    torch.testing.assert_close(model.score(states, vectors), expected)


def test_nfm_can_end_in_a_relu_as_the_original() -> None:
    plain, ending = (small("nfm", final_relu=value) for value in (False, True))
    scores = plain.score(states_of(plain, HISTORIES), vectors_of(plain))
    assert (scores < 0).any()
    torch.testing.assert_close(ending.score(states_of(ending, HISTORIES), vectors_of(ending)), scores.relu())


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("few", [True, False])
def test_lightgcn_propagates_as_the_loop(layers: int, few: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adjacency, "_few", lambda nodes, count: few)
    model = small("lightgcn", layers=layers)
    assert isinstance(model, LightGCN)
    before = model.item_encoder(ItemBatch(items=torch.arange(1, N + 1)))
    users, items = loops.lightgcn_loop(PAIRS, model.user_table, before, layers)
    some_users, some_items = torch.tensor([5, 0, 0, 6]), torch.tensor([9, 2, 6])
    for grads in (True, False):  # the rows that are needed; all of them, kept
        with torch.set_grad_enabled(grads):
            found = model.propagate(some_users, some_items)
        torch.testing.assert_close(found, (users[some_users], items[some_items - 1]))


def test_what_was_propagated_is_forgotten_with_the_weights_it_came_from() -> None:
    model = small("lightgcn")
    everyone = torch.arange(U)
    with torch.no_grad():
        before = model.last_states(everyone, everyone[:, None], everyone)
        other = {name: 2 * values for name, values in model.state_dict().items()}
        model.load_state_dict(other)
        torch.testing.assert_close(model.last_states(everyone, everyone[:, None], everyone), 2 * before)
        model.get_parameter("user_table").mul_(0)
        model.get_submodule("item_encoder").get_parameter("table").mul_(0)
        model.eval()
        assert not model.last_states(everyone, everyone[:, None], everyone).any()


def test_graph_models_refuse_encoders_of_content() -> None:
    encoder = IdEncoder(num_items=N, dim=D)
    encoder.needs = frozenset({"clips"})
    with pytest.raises(InputError, match="encoder reads clips"):
        LightGCN(
            item_encoder=encoder, dim=D, num_users=U, num_items=N, train_pairs=(torch.tensor([0]), torch.tensor([1]))
        )


def test_youtube_states_are_those_of_the_loop() -> None:
    model = small("youtube")
    vectors, state = vectors_of(model), dict(model.named_parameters())
    expected = [loops.youtube_loop([vectors[item] for item in history], state) for history in HISTORIES]
    torch.testing.assert_close(states_of(model, HISTORIES), torch.stack(expected))


@pytest.mark.parametrize("reject_own", [True, False])
def test_dssm_may_keep_the_users_other_items_as_negatives(reject_own: bool) -> None:
    model = small("dssm", reject_own=reject_own)
    batch = batch_of(torch.tensor([[2], [5], [2], [7]]))  # users 0..3, who also had what follows
    own = torch.tensor([[2, 5], [5, 7], [2, 1], [7, 3]])
    slot = {2: 0, 5: 1, 7: 2}
    slots = torch.tensor([[slot.get(int(item), 3) for item in row] for row in own])
    batch = type(batch)(**{**batch.__dict__, "own": slots, "last_only": True, "num_targets": 4})
    counts = torch.tensor([0, 1, 6, 2, 1, 3, 1, 4, 1, 1])
    loss = TrainingStep(model, counts).double()(batch)
    users, vectors, shares = model.get_parameter("user_table"), vectors_of(model), counts / counts.sum()
    targets = [2, 5, 2, 7]
    expected = torch.zeros((), dtype=torch.double)
    for user, target in enumerate(targets):

        def term(item: int, user: int = user) -> Tensor:
            return (users[user] @ vectors[item]).exp() / shares[item]

        rejected = set(own[user].tolist()) if reject_own else {target}
        others = [term(item) for item in targets if item not in rejected]
        expected = expected - (term(target) / (term(target) + sum(others))).log() / 4
    torch.testing.assert_close(loss, expected)


LOSSES = ["in-batch-softmax", "full-softmax", "sampled-softmax", "bpr", "bce", "gbce"]


def config_of(dataset: Path, name: str, loss: str, **train: Any) -> RunConfig:
    draws = {} if loss in {"in-batch-softmax", "full-softmax"} else {"num_negatives": 8}
    settings = {"epochs": 2, "batch_size": 32, "lr": 1e-2, "device": "cpu", "loss": loss, **draws, **train}
    return RunConfig.model_validate(
        {
            "dataset": dataset,
            "output": dataset.parent / f"{name}-{loss}",
            "model": {"name": name, "dim": 8},
            "encoder": {"name": "id"},
            "train": settings,
        }
    )


@pytest.mark.parametrize("name", ["sasrec", "dssm", "lightgcn", "nfm", "deepfm", "youtube"])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_model_learns_with_every_loss(name: str, loss: str, make_dataset: MakeDataset) -> None:
    run = build_experiment(config_of(make_dataset(random_sequences(60, 30)), name, loss, lr=3e-2, weight_decay=0.0))
    trainer = Trainer(
        run.model, run.split, run.content, run.config.train,
        seed=1, folder=run.config.output, device=run.device, identity=run.identity,
    )  # fmt: skip
    (batch, *_) = trainer.batches()
    losses = [float(trainer.step(batch)) for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["dssm", "nfm", "lightgcn"])
def test_a_killed_epoch_goes_on_where_it_was(name: str, make_dataset: MakeDataset) -> None:
    dataset = make_dataset(random_sequences(50, 30))
    config = config_of(dataset, name, "bpr")

    def trainer_of() -> Trainer:
        run = build_experiment(config)
        return Trainer(
            run.model, run.split, run.content, config.train,
            seed=1, folder=config.output, device=run.device, identity=run.identity,
        )  # fmt: skip

    straight = trainer_of()
    straight.fit(lambda *_: None, lambda *_: None)
    expected = {name: values.clone() for name, values in straight.model.state_dict().items()}
    (config.output / "checkpoints" / "last.safetensors").unlink()

    class KilledError(Exception):
        pass

    def kill(progress: Any, loss: float) -> None:
        if (progress.epoch, progress.step) == (1, 3):
            interrupted.save()
            raise KilledError

    interrupted = trainer_of()
    with pytest.raises(KilledError):
        interrupted.fit(kill, lambda *_: None)
    resumed = trainer_of()
    assert resumed.resume()
    resumed.fit(lambda *_: None, lambda *_: None)
    for key, values in resumed.model.state_dict().items():
        torch.testing.assert_close(values, expected[key], rtol=0, atol=0)


def test_losses_that_draw_say_how_many(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(random_sequences(20, 20))
    with pytest.raises(InputError, match=r"'bpr', which needs train\.num_negatives"):
        train(config_of(dataset, "dssm", "bpr", num_negatives=None))
    with pytest.raises(InputError, match=r"samples no items; leave train\.num_negatives out"):
        train(config_of(dataset, "dssm", "full-softmax", num_negatives=3))


def test_models_of_known_users_need_a_user(make_dataset: MakeDataset) -> None:
    config = config_of(make_dataset(random_sequences(20, 20)), "dssm", "bpr")
    train(config)
    with pytest.raises(InputError, match="cannot read a history; give a user"):
        load(config.output).recommend(history=[1, 2])
    assert load(config.output).recommend([1])["score"].is_finite().all()
