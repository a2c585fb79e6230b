"""HSTU, eSASRec and FMLP-Rec against derivations of their own, with planted deviations; scores with a temperature."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from microlens.building import build
from microlens.data.batches import ItemBatch
from microlens.encoders.id import IdEncoder
from microlens.errors import InputError
from microlens.recommenders import RECOMMENDERS, esasrec, fmlp, hstu
from microlens.recommenders.packed import PackedRecommender
from tests.reference import sequential as loops

N, D, L = 12, 4, 6
LENGTHS = [1, 2, 4, L]

Case = tuple[str, dict[str, Any]]
CASES: list[Case] = [
    ("hstu", {"blocks": 1, "heads": 1, "temperature": 0.0}),
    ("hstu", {"blocks": 2, "heads": 2, "temperature": 0.05}),
    ("esasrec", {"blocks": 1, "heads": 1, "temperature": 0.0}),
    ("esasrec", {"blocks": 2, "heads": 2, "temperature": 0.1}),
    ("fmlp", {"blocks": 1, "temperature": 0.0}),
    ("fmlp", {"blocks": 3, "temperature": 0.1}),
]
DERIVED = {"hstu": loops.hstu_states, "esasrec": loops.esasrec_states, "fmlp": loops.fmlp_states}


def small(name: str, **options: Any) -> PackedRecommender:
    torch.manual_seed(3)
    world = {"item_encoder": IdEncoder(num_items=N, dim=D), "dim": D, "history_length": L}
    model = build(RECOMMENDERS[name], options, world, "model").double()
    assert isinstance(model, PackedRecommender)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.7)
    return model.eval()


def histories() -> Tensor:
    history = torch.zeros(len(LENGTHS), L, dtype=torch.long)
    for user, length in enumerate(LENGTHS):
        history[user, L - length :] = torch.randperm(N, generator=torch.Generator().manual_seed(user))[:length] + 1
    return history


def state_of(model: nn.Module) -> dict[str, loops.Array]:
    return {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}


def derived(case: Case, state: loops.State) -> Tensor:
    """The states after all items of all users, (T, D)."""
    name, options = case
    states = [DERIVED[name](state, row[row > 0].tolist(), **options) for row in histories()]
    return torch.cat([torch.from_numpy(one) for one in states])


def states_of(model: PackedRecommender) -> Tensor:
    history = histories()
    vectors = model.encode_items(ItemBatch(items=history.flatten())).view(*history.shape, D)
    return model.encode_users(torch.arange(len(history)), history, vectors)[history > 0]


def assert_as_derived(model: PackedRecommender, expected: Tensor) -> None:
    torch.testing.assert_close(states_of(model), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_states_are_those_of_the_derivation(case: Case) -> None:
    name, options = case
    model = small(name, **options)
    assert_as_derived(model, derived(case, state_of(model)))


@pytest.mark.parametrize("case", [CASES[1], CASES[3], CASES[5]], ids=str)
def test_gradients_are_those_of_the_derivation(case: Case) -> None:
    """Along a random direction of each parameter, by central differences of the derivation."""
    name, options = case
    model = small(name, **options)
    weights = torch.randn_like(derived(case, state_of(model)))
    (states_of(model) * weights).sum().backward()
    state = state_of(model)
    for parameter_name, parameter in model.named_parameters():
        direction = torch.randn_like(parameter)
        assert parameter.grad is not None
        sums = []
        for step in (1e-6, -1e-6):
            moved = {**state, parameter_name: state[parameter_name] + step * direction.numpy()}
            sums.append((derived(case, moved) * weights).sum())
        expected = (sums[0] - sums[1]) / 2e-6
        torch.testing.assert_close((parameter.grad * direction).sum(), expected, rtol=1e-4, atol=1e-5)


class Unscaled:
    @staticmethod
    def sqrt(number: float) -> float:
        return 1.0


def rows_exchanged(model: PackedRecommender, name: str, first: int, second: int) -> None:
    """Exchange two groups of D rows of a weight in all blocks."""
    for block in model.get_submodule("blocks").children():
        weight = block.get_parameter(f"{name}.weight")
        order = torch.arange(len(weight)).view(-1, D)
        order[[first, second]] = order[[second, first]]
        weight.data = weight.data[order.flatten()]


def in_every_block(model: PackedRecommender, name: str, module: Callable[[nn.Module], nn.Module]) -> None:
    for block in model.get_submodule("blocks").children():
        setattr(block, name, module(block.get_submodule(name)))


def linear_attention(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    silu = functional.silu
    patch.setattr(functional, "silu", lambda values: values if values.dim() == 3 else silu(values))


def softmax_attention(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    silu = functional.silu
    patch.setattr(functional, "silu", lambda values: values.softmax(2) if values.dim() == 3 else silu(values))


def scaled_logits(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    baddbmm = torch.baddbmm
    patch.setattr(torch, "baddbmm", lambda bias, query, key: baddbmm(bias, query, key, alpha=D**-0.5))


def future_read(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    patch.setattr(hstu, "HIDDEN", 0.0)
    visible = esasrec.attention_mask
    patch.setattr(esasrec, "attention_mask", lambda history, heads: torch.zeros_like(visible(history, heads)))


def no_distances(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    for block in model.get_submodule("blocks").children():
        block.get_parameter("distances").data.zero_()


def items_unscaled(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    patch.setattr(hstu, "math", Unscaled)


def attended_unnormed(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    in_every_block(model, "norm", lambda norm: Once(norm))


class Once(nn.Module):
    """A norm of every first call: of what enters a unit, and not of what attention returns."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm, self.calls = norm, 0

    def forward(self, values: Tensor) -> Tensor:
        self.calls += 1
        result: Tensor = self.norm(values) if self.calls % 2 else values
        return result


def no_output_bias(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    for block in model.get_submodule("blocks").children():
        block.get_submodule("output").bias = None


def gates_are_values(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    rows_exchanged(model, "project", 0, 1)


def queries_are_keys(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    rows_exchanged(model, "project", 2, 3)


def first_position_last(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    model.get_parameter("positions").data = model.get_parameter("positions").data.flip(0)


def raw_items(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    patch.setattr(PackedRecommender, "encode_items", lambda self, items: self.item_encoder(items))


def raw_states(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    patch.setattr(PackedRecommender, "_scaled", lambda self, states: states / self.temperature)


def gates_of_normed(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    norm = nn.LayerNorm(D, elementwise_affine=False)
    in_every_block(model, "attention_gate", lambda gate: nn.Sequential(norm, gate))


def ungated_feed_forward(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    in_every_block(model, "feed_forward_gate", lambda gate: nn.Threshold(float("inf"), 100.0))


def relu_for_silu(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    patch.setattr(functional, "silu", functional.relu)


def other_half_activated(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    for group in range(4):
        rows_exchanged(model, "expand", group, group + 4)


def no_feed_forward_norm(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    in_every_block(model, "feed_forward_norm", lambda norm: nn.Identity())


def filters_reversed(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    for block in model.get_submodule("blocks").children():
        block.get_parameter("taps").data = block.get_parameter("taps").data.flip(0)


def filters_read_the_future(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    where = torch.where
    patch.setattr(torch, "where", lambda past, taps, zero: where(past.new_ones(()), taps, zero))


def no_filter(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    patch.setattr(fmlp.FilterBlock, "_filter", lambda self, packed, real, shape: torch.zeros_like(packed))


def relu_for_gelu(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    patch.setattr(functional, "gelu", functional.relu)


def no_norm_of_what_is_read(patch: pytest.MonkeyPatch, model: PackedRecommender) -> None:
    model.norm = nn.Identity()


Deviation = Callable[[pytest.MonkeyPatch, PackedRecommender], None]
OF_ALL: list[Deviation] = [first_position_last, raw_items, raw_states]
OF_HSTU: list[Deviation] = [
    future_read,
    relu_for_silu,
    linear_attention,
    softmax_attention,
    scaled_logits,
    no_distances,
    items_unscaled,
    attended_unnormed,
    no_output_bias,
    gates_are_values,
    queries_are_keys,
]
OF_ESASREC: list[Deviation] = [
    future_read,
    relu_for_silu,
    gates_of_normed,
    ungated_feed_forward,
    other_half_activated,
    no_feed_forward_norm,
]
OF_FMLP: list[Deviation] = [
    filters_reversed,
    filters_read_the_future,
    no_filter,
    relu_for_gelu,
    no_norm_of_what_is_read,
    no_feed_forward_norm,
]
DEVIATIONS = [
    (case, one)
    for case, own in ((CASES[1], OF_HSTU), (CASES[3], OF_ESASREC), (CASES[5], OF_FMLP))
    for one in OF_ALL + own
]


@pytest.mark.parametrize(
    ("case", "deviate"), DEVIATIONS, ids=lambda value: value[0] if isinstance(value, tuple) else value.__name__
)
def test_a_deviation_is_found(case: Case, deviate: Deviation, monkeypatch: pytest.MonkeyPatch) -> None:
    name, options = case
    model = small(name, **options)
    expected = derived(case, state_of(model))
    assert_as_derived(model, expected)
    with monkeypatch.context() as patch:
        deviate(patch, model)
        with pytest.raises(AssertionError):
            assert_as_derived(model, expected)


def test_the_last_state_of_the_first_filter_is_that_of_the_fourier_transform() -> None:
    model = small("fmlp", blocks=1)
    expected = loops.fmlp_last_state_by_fourier_transform(state_of(model), histories()[-1].tolist())
    torch.testing.assert_close(states_of(model)[-1], torch.from_numpy(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["sasrec", "esasrec", "fmlp", "hstu"])
def test_scores_are_cosines_over_the_temperature(name: str) -> None:
    model = small(name, temperature=0.1)
    history = histories()
    vectors = model.encode_items(ItemBatch(items=torch.arange(1, N + 1)))
    states = model.last_states(torch.arange(len(history)), history, vectors[history - 1])
    scores = model.score(states, vectors)
    assert model.dot_product
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(N, dtype=torch.double))
    torch.testing.assert_close(
        scores, functional.cosine_similarity(states[:, None], model.item_encoder.table[None, 1:], dim=2) / 0.1
    )


@pytest.mark.parametrize("name", ["sasrec", "esasrec", "hstu"])
def test_options_that_cannot_be(name: str) -> None:
    with pytest.raises(InputError, match=r"model: temperature = -0\.1: must be 0 or more"):
        small(name, temperature=-0.1)
    for options in ({"blocks": 0}, {"heads": 0}, {"heads": 3}):
        with pytest.raises(InputError, match=r"both must be at least 1, and heads divide dim = 4"):
            small(name, **options)
    with pytest.raises(InputError, match="model"):
        small(name, temperature="warm")
    with pytest.raises(InputError, match="model"):
        small(name, temperature=float("nan"))


@pytest.mark.parametrize("name", ["sasrec", "esasrec", "fmlp", "hstu"])
def test_bfloat16_stays_close(name: str) -> None:
    """Under autocast, from float32 and from bfloat16 vectors, as content towers give them."""
    model = small(name, temperature=0.0).float()
    history = histories()
    users = torch.arange(len(history))
    vectors = model.item_encoder.table[history].detach()
    expected = model.last_states(users, history, vectors)
    with torch.autocast("cpu", torch.bfloat16):
        for given in (vectors, vectors.bfloat16()):
            states = model.encode_users(users, history, given)
            torch.testing.assert_close(states[:, -1].float(), expected, rtol=0.1, atol=0.2)
            torch.testing.assert_close(model.last_states(users, history, given).float(), expected, rtol=0.1, atol=0.2)
