"""GRU4Rec and NextItNet against their loop twins, and against the original code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from microlens.building import build
from microlens.data.content import ItemContent
from microlens.data.protocol import Protocol
from microlens.data.split import make_split
from microlens.encoders.id import IdEncoder
from microlens.errors import InputError
from microlens.evaluation.metrics import all_metrics
from microlens.evaluation.ranking import rank_targets
from microlens.recommenders import RECOMMENDERS
from microlens.recommenders.dropout import Dropout
from microlens.recommenders.gru4rec import GRU4Rec
from microlens.recommenders.nextitnet import NORM_EPS, NextItNet
from microlens.recommenders.padding import LeftToRight, Padding
from microlens.release.pairs import read_pairs
from microlens.training.step import TrainingStep
from tests.data.interactions import interactions_of_pairs
from tests.reference.convolution_loop import convolution_loop
from tests.reference.gru_loop import gru_loop
from tests.training.test_losses import NoContent, batch_of

GOLDEN = Path(__file__).parents[1] / "golden"
N, D, L = 40, 6, 24  # more positions than NextItNet's longest tap looks back

NAMES = ["gru4rec", "nextitnet"]


def small_model(name: str, blocks: int, padding: Padding = "masked") -> LeftToRight:
    encoder = IdEncoder(num_items=N, dim=D)
    options = {"blocks": blocks, "padding": padding}
    model = build(RECOMMENDERS[name], options, {"item_encoder": encoder, "dim": D}, "model")
    assert isinstance(model, LeftToRight)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.double().eval()


def padded(lengths: list[int]) -> Tensor:
    history = torch.zeros(len(lengths), L, dtype=torch.long)
    for user, length in enumerate(lengths):
        history[user, L - length :] = torch.randperm(N)[:length] + 1
    return history


def loop_twin(model: LeftToRight, vectors: Tensor) -> Tensor:
    """The states of one user from the plain form: (n, D) to (n, D)."""
    if isinstance(model, GRU4Rec):
        weights = dict(model.layers.named_parameters())
        layers = range(model.layers.num_layers)
        return gru_loop(vectors, [(weights[f"weight_ih_l{at}"], weights[f"weight_hh_l{at}"]) for at in layers])
    assert isinstance(model, NextItNet)
    convolutions = [
        (convolution.weight, convolution.bias, norm.weight, norm.bias)
        for block in model.blocks
        for convolution, norm in zip(block.convolutions, block.norms, strict=True)
    ]
    return convolution_loop(vectors, convolutions, NORM_EPS)


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_masked_padding_is_no_context(name: str, blocks: int) -> None:
    """States and gradients are those of the loop over real items alone, and padding is never looked at."""
    model = small_model(name, blocks)
    table = model.item_encoder.table
    history = padded([1, 2, 7, 18, L, 3])
    vectors = torch.where((history > 0)[..., None], table[history], torch.nan)
    states = model.encode_users(torch.arange(len(history)), history, vectors)
    last = model.last_states(torch.arange(len(history)), history, vectors)
    real = [row[row > 0] for row in history]
    expected = [loop_twin(model, table[items]) for items in real]
    for user, twin in enumerate(expected):
        torch.testing.assert_close(states[user, -len(twin) :], twin, rtol=0, atol=1e-10)
        torch.testing.assert_close(last[user], twin[-1], rtol=0, atol=1e-10)
    assert_same_gradients(model, states[history > 0], torch.cat(expected))
    assert_same_gradients(model, last, torch.stack([twin[-1] for twin in expected]))


@pytest.mark.parametrize("name", NAMES)
def test_reference_padding_is_an_untrained_item_read_first(name: str) -> None:
    model = small_model(name, 2, "reference")
    table = model.item_encoder.table
    history = padded([2, 9, L])
    vectors = table[history] * (history > 0)[..., None]
    states = model.encode_users(torch.arange(3), history, vectors)
    last = model.last_states(torch.arange(3), history, vectors)
    blank = torch.where((history > 0)[..., None], table[history], table[0].detach())
    expected = torch.stack([loop_twin(model, row) for row in blank])
    torch.testing.assert_close(states[history > 0], expected[history > 0], rtol=0, atol=1e-10)
    torch.testing.assert_close(last, expected[:, -1], rtol=0, atol=1e-10)
    assert_same_gradients(model, states[history > 0], expected[history > 0])


def assert_same_gradients(model: LeftToRight, states: Tensor, expected: Tensor) -> None:
    parameters = list(model.parameters())
    weights = torch.randn_like(states)
    ours, theirs = (
        torch.autograd.grad((of * weights).sum(), parameters, retain_graph=True) for of in (states, expected)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_the_last_state_computes_what_it_depends_on_alone() -> None:
    """What the last state depends on thins out from convolution to convolution; nothing else is computed."""
    model = small_model("nextitnet", 1)
    rows: list[int] = []
    for block in model.blocks:
        for norm in block.norms:
            norm.register_forward_pre_hook(lambda norm, inputs: rows.append(len(inputs[0])))
    history = padded([L])
    model.last_states(torch.arange(1), history, model.item_encoder.table[history])
    distances = [range(0, L, 2), range(0, L, 4), range(0, L, 8), [0]]  # back from the last item; its 24th is too far
    assert rows == [len(distance) for distance in distances]


def test_dropout_falls_on_what_gru4rec_reads_and_nowhere_else() -> None:
    model = GRU4Rec(item_encoder=IdEncoder(num_items=N, dim=D), dim=D, blocks=2, dropout=0.5)
    users, history, vectors = torch.arange(1), padded([L]), torch.randn(1, L, D)
    torch.manual_seed(1)
    dropped = Dropout(0.5)(vectors)
    torch.manual_seed(1)
    states = model.train().encode_users(users, history, vectors)
    torch.testing.assert_close(states, model.eval().encode_users(users, history, dropped), rtol=0, atol=1e-6)


def test_weights_start_as_in_the_original_code() -> None:
    dim = 48
    encoder = IdEncoder(num_items=N, dim=dim)
    xavier, torch_gru, torch_convolution = (6 / (4 * dim)) ** 0.5, dim**-0.5, (3 * dim) ** -0.5
    gru4rec = GRU4Rec(item_encoder=encoder, dim=dim, blocks=2)
    bounds = {
        weight: xavier if name.endswith("l0") else torch_gru for name, weight in gru4rec.layers.named_parameters()
    }
    for block in NextItNet(item_encoder=encoder, dim=dim).blocks:
        bounds |= dict.fromkeys(block.convolutions.parameters(), torch_convolution)
    for weight, bound in bounds.items():
        assert 0.9 * bound < weight.abs().max() <= bound


def test_reference_padding_needs_ids() -> None:
    class Content(IdEncoder):
        needs = frozenset({"clips"})

    world: dict[str, Any] = {"item_encoder": Content(num_items=N, dim=D), "dim": D}
    for name in NAMES:
        build(RECOMMENDERS[name], {"padding": "masked"}, world, "model")
        with pytest.raises(InputError, match=r"model: padding = 'reference' works with id encoders.*'masked'"):
            build(RECOMMENDERS[name], {"padding": "reference"}, world, "model")
        with pytest.raises(InputError, match="model: blocks = 0"):
            build(RECOMMENDERS[name], {"blocks": 0}, world, "model")


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_stays_close(name: str) -> None:
    """Under autocast, from float32 and from bfloat16 vectors, as content towers give them."""
    model = small_model(name, 2).float()
    history = padded([1, 5, L])
    vectors = model.item_encoder.table[history].detach()
    users = torch.arange(3)
    expected = model.last_states(users, history, vectors)
    with torch.autocast("cpu", torch.bfloat16):
        for given in (vectors, vectors.bfloat16()):
            states = model.encode_users(users, history, given)
            torch.testing.assert_close(states[:, -1].float(), expected, rtol=0.1, atol=0.1)
            torch.testing.assert_close(model.last_states(users, history, given).float(), expected, rtol=0.1, atol=0.1)


def original_gru4rec(state: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "state.user_encoder.gru_layers."
    return {name.replace(prefix, "layers."): value for name, value in state.items() if name.startswith(prefix)}


def original_nextitnet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = {}
    for block in range(4):
        theirs = f"state.user_encoder.residual_blocks.{block}."
        for number in (1, 2):
            convolution, norm = f"blocks.{block}.convolutions.{number - 1}.", f"blocks.{block}.norms.{number - 1}."
            taps = state[f"{theirs}conv{number}.weight"].squeeze(2)  # (D out, D in, 3)
            ours[f"{convolution}weight"] = taps.permute(2, 0, 1)
            ours[f"{convolution}bias"] = state[f"{theirs}conv{number}.bias"]
            ours |= {f"{norm}{kind}": state[f"{theirs}ln{number}.{kind}"] for kind in ("weight", "bias")}
    return ours


ORIGINAL_WEIGHTS: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "gru4rec": original_gru4rec,
    "nextitnet": original_nextitnet,
}


def golden_model(name: str) -> tuple[LeftToRight, dict[str, Tensor], dict[str, Any]]:
    state = load_file(GOLDEN / f"{name}.safetensors")
    facts = json.loads((GOLDEN / f"{name}.json").read_text())
    encoder = IdEncoder(num_items=facts["item_num"], dim=16)
    options = {"blocks": 2, "padding": "reference"} | ({"dropout": 0.0} if name == "gru4rec" else {})
    model = build(RECOMMENDERS[name], options, {"item_encoder": encoder, "dim": 16}, "model")
    assert isinstance(model, LeftToRight)
    model.load_state_dict(ORIGINAL_WEIGHTS[name](state) | {"item_encoder.table": state["state.id_encoder.weight"]})
    return model, state, facts


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_item_gradient_agree_with_the_original_code(name: str) -> None:
    model, state, facts = golden_model(name)
    step = TrainingStep(model, torch.ones(facts["item_num"] + 1))
    step.log_q = state["pop"].log().float()
    loss = step(batch_of(state["ids"]))
    assert loss.item() == pytest.approx(facts["loss"], abs=1e-5)
    loss.backward()
    torch.testing.assert_close(model.item_encoder.table.grad, state["grad_item"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_validation_ranks_agree_with_the_original_code(name: str) -> None:
    model, _, facts = golden_model(name)
    split = make_split(interactions_of_pairs(read_pairs(GOLDEN / "pairs.tsv")), Protocol())
    content: ItemContent = NoContent()  # type: ignore[assignment]
    ranks = rank_targets(model, content, split, "valid", torch.device("cpu"))
    assert ranks.tolist() == facts["ranks"]
    assert all_metrics(ranks)["HR@10"] == pytest.approx(facts["hr10"], abs=1e-12)
    assert all_metrics(ranks)["NDCG@10"] == pytest.approx(facts["ndcg10"], abs=1e-12)
