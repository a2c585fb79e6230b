"""Subclasses that forget a method, and what the base classes do by default."""

from typing import Any

import pytest
import torch
from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.encoders.id import IdEncoder
from microlens.recommenders import RECOMMENDERS
from microlens.recommenders.base import Recommender
from microlens.recommenders.fitted import Fitted
from microlens.recommenders.graph import GraphRecommender


class LastItem(Recommender):
    """The vector of the last item: the one method that every recommender needs."""

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        return vectors[:, -1]


@pytest.mark.parametrize(
    ("base", "defined", "missing"),
    [
        (Recommender, [], "last_states"),
        (Recommender, ["encode_users"], "last_states"),
        (Fitted, ["fit"], "scores"),
        (Fitted, ["scores"], "fit"),
        (GraphRecommender, [], "node_vectors"),
        (ItemEncoder, [], "forward"),
    ],
)
def test_a_class_that_forgets_a_method_cannot_be_made(base: type[Any], defined: list[str], missing: str) -> None:
    incomplete = type("Incomplete", (base,), {name: lambda self: None for name in defined})
    with pytest.raises(TypeError, match=rf"abstract class Incomplete .*{missing}"):
        incomplete()


def test_states_at_every_position_are_the_last_ones_of_what_was_read_so_far() -> None:
    model = LastItem(IdEncoder(num_items=4, dim=3))
    vectors = torch.randn(2, 5, 3)
    states = model.encode_users(torch.arange(2), torch.tensor([[0, 0, 1, 2, 3], [4, 3, 2, 1, 4]]), vectors)
    torch.testing.assert_close(states, vectors, rtol=0, atol=0)


def test_who_fits_at_once_says_so() -> None:
    for name, constructor in RECOMMENDERS.items():
        assert isinstance(constructor, type)
        assert issubclass(constructor, Recommender)
        assert constructor.fits_at_once == issubclass(constructor, Fitted), name


class Pictures(ItemEncoder):
    """An encoder of content that says nothing but what it needs."""

    needs = frozenset({"covers"})

    def __init__(self) -> None:
        super().__init__()
        self.projection = torch.nn.Linear(3, 2)
        self.frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, items: ItemBatch) -> Tensor:
        vectors: Tensor = self.projection(items.content["covers"].float().mean((1, 2, 3)))
        return vectors


def test_an_encoder_that_needs_content_sees_it_and_trains_on_it() -> None:
    encoder = Pictures()
    assert encoder.sees_content
    (group,) = encoder.content_groups()
    assert {id(parameter) for parameter in group.parameters} == {id(p) for p in encoder.projection.parameters()}
    assert not IdEncoder(num_items=4, dim=2).sees_content
    assert IdEncoder(num_items=4, dim=2).content_groups() == []
