"""Fusions: what each computes, item by item, and how several towers share one vector."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from microlens.data.batches import ItemBatch
from microlens.data.new_items import NewItem
from microlens.encoders import build_encoder
from microlens.encoders.base import ItemEncoder
from microlens.encoders.fusion import FUSIONS, ConcatEncoder, FilmEncoder, Fusion, GatedEncoder, MeanEncoder
from microlens.errors import InputError
from microlens.testing import worlds

N, D = 7, 4
WORLD: dict[str, Any] = {"dim": D, "num_items": N, "item_ids": np.arange(N + 1)}
ITEMS = ItemBatch(items=torch.tensor([3, 1, 7]))


def fusion_of(name: str, towers: int) -> Fusion:
    """A fusion of id towers in float64, every parameter away from its start."""
    encoder = build_encoder({"name": name, "towers": [{"name": "id"}] * towers}, WORLD).double()
    assert isinstance(encoder, Fusion)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_()
    return encoder


def linear(layer: nn.Module, x: list[float]) -> list[float]:
    """The layer, one product at a time."""
    assert isinstance(layer, nn.Linear)
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [sum(w * value for w, value in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def fuse_one_by_one(encoder: Fusion, rows: list[list[float]]) -> list[float]:
    """One item's vector from its towers' vectors, in plain Python."""
    if isinstance(encoder, ConcatEncoder):
        return linear(encoder.output, linear(encoder.mix, [value for row in rows for value in row]))
    if isinstance(encoder, FilmEncoder):
        x = rows[0]
        for number, y in enumerate(rows[1:]):
            both = linear(encoder.modulations[number], y)
            x = [both[d] * x[d] + both[D + d] for d in range(D)]
        return linear(encoder.output, x)
    if isinstance(encoder, GatedEncoder):
        value = linear(encoder.value, rows[0])
        gate = linear(encoder.gate, [value for row in rows[1:] for value in row])
        return linear(encoder.output, [v / (1 + math.exp(-g)) for v, g in zip(value, gate, strict=True)])
    share = 1 / len(rows) if isinstance(encoder, MeanEncoder) else 1
    return [share * sum(row[d] for row in rows) for d in range(D)]


@pytest.fixture(params=[2, 3, 4])
def count(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_equals_the_same_item_by_item(name: str, count: int) -> None:
    encoder = fusion_of(name, count)
    vectors = [tower(ITEMS).tolist() for tower in encoder.towers()]
    expected = [fuse_one_by_one(encoder, [tower[item] for tower in vectors]) for item in range(len(ITEMS))]
    torch.testing.assert_close(encoder(ITEMS), torch.tensor(expected, dtype=torch.double), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", FUSIONS)
def test_a_row_depends_on_its_item_alone(name: str, count: int) -> None:
    encoder = fusion_of(name, count)
    together = encoder(ITEMS)
    alone = torch.cat([encoder(ITEMS.at(torch.tensor([row]))) for row in range(len(ITEMS))])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    assert (together[0] - together[1]).abs().min() > 1e-6


@pytest.mark.parametrize("name", FUSIONS)
def test_gradients_reach_every_tower_and_every_layer_from_the_start(name: str, count: int) -> None:
    encoder = build_encoder({"name": name, "towers": [{"name": "id"}] * count}, WORLD)
    (encoder(ITEMS) * torch.randn(len(ITEMS), D)).sum().backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        rows = parameter.grad[ITEMS.items] if parameter_name.endswith("table") else parameter.grad
        assert (rows != 0).all(), parameter_name


def reordered(encoder: Fusion, order: list[int]) -> Tensor:
    """What the fusion gives when its towers change places under weights that stay."""
    towers = [encoder.parts[number] for number in order]
    encoder.parts = nn.ModuleList(towers)
    return encoder(ITEMS)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "symmetric"), [("sum", True), ("mean", True), ("concat", False), ("film", False), ("gated", False)]
)
def test_the_order_of_the_towers_matters_but_to_a_sum_and_a_mean(name: str, symmetric: bool) -> None:
    for order in ([1, 0, 2], [0, 2, 1]):
        encoder = fusion_of(name, 3)
        assert torch.allclose(encoder(ITEMS), reordered(encoder, order), atol=1e-9) is symmetric


def test_towers_that_swap_together_with_their_weights_give_the_same() -> None:
    concat, gated = fusion_of("concat", 3), fusion_of("gated", 3)
    before = [concat(ITEMS), gated(ITEMS)]
    with torch.no_grad():
        first, second, third = concat.mix.weight.clone().split(D, 1)  # type: ignore[operator, union-attr]
        concat.mix.weight.copy_(torch.cat([third, first, second], 1))  # type: ignore[operator, union-attr]
        second, third = gated.gate.weight.clone().split(D, 1)  # type: ignore[operator, union-attr]
        gated.gate.weight.copy_(torch.cat([third, second], 1))  # type: ignore[operator, union-attr]
    torch.testing.assert_close([reordered(concat, [2, 0, 1]), reordered(gated, [0, 2, 1])], before)


def test_film_starts_near_the_first_tower() -> None:
    """With towers of nothing beside it, the first tower goes through the output layer as it is."""
    torch.manual_seed(1)
    encoder = build_encoder({"name": "film", "towers": [{"name": "id"}] * 4}, WORLD)
    assert isinstance(encoder, FilmEncoder)
    first, *others = encoder.towers()
    with torch.no_grad():
        for other in others:
            for parameter in other.parameters():
                parameter.zero_()
    torch.testing.assert_close(encoder(ITEMS), encoder.output(first(ITEMS)))


@pytest.mark.parametrize("name", FUSIONS)
def test_fusions_of_fusions_and_their_towers(name: str) -> None:
    inner = {"name": "gated", "towers": [{"name": "id"}] * 2}
    encoder = build_encoder({"name": name, "towers": [inner, {"name": "id"}]}, WORLD)
    assert encoder(ITEMS).shape == (3, D)
    assert [type(tower).__name__ for tower in encoder.towers()] == ["IdEncoder"] * 3
    assert encoder.known_items_only
    assert encoder.content_groups() == []


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("towers", [None, [], [{"name": "id"}]])
def test_fewer_than_two_towers_are_refused(name: str, towers: list[dict[str, str]] | None) -> None:
    with pytest.raises(InputError, match=r"encoder\.towers must be a list of at least two encoder tables"):
        build_encoder({"name": name, "towers": towers}, WORLD)


@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusion_is_an_encoder_of_the_catalogue(name: str) -> None:
    assert issubclass(FUSIONS[name], ItemEncoder)
    with pytest.raises(InputError, match=r"encoder\.gain is unknown"):
        build_encoder({"name": name, "towers": [{"name": "id"}] * 2, "gain": 2}, WORLD)


@pytest.mark.parametrize("name", FUSIONS)
def test_new_items_are_fused_as_those_without_interactions(name: str) -> None:
    split = worlds.small_split()
    given = worlds.constructor_arguments(split)
    towers = [{"name": "words"}, {"name": "id", "dropout": 0.5}, {"name": "popularity_bins"}, {"name": "tag"}]
    encoder = build_encoder({"name": name, "towers": towers}, {**given}).eval()
    assert encoder.reads_of_new == {"title", "tag"}
    item = NewItem(title=given["titles"][worlds.N - 1], tag=given["tags"][worlds.N - 1])
    new = ItemBatch(items=torch.zeros(1, dtype=torch.long), new=(item,))
    assert not split.train_counts[worlds.N]
    torch.testing.assert_close(encoder(new), encoder(ItemBatch(items=torch.tensor([worlds.N]))), rtol=0, atol=1e-6)


def test_a_fusion_encodes_new_items_if_all_towers_do() -> None:
    towers = [{"name": "words"}, {"name": "id"}]
    assert (
        build_encoder(
            {"name": "sum", "towers": towers}, {**worlds.constructor_arguments(worlds.small_split())}
        ).reads_of_new
        is None
    )
