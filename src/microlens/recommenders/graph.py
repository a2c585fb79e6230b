"""The contract of models that propagate vectors over the user-item graph of the training set, and that graph."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.errors import InputError
from microlens.recommenders.base import Recommender


class GraphRecommender(Recommender):
    """Users and items are nodes whose vectors come out of one propagation together.

    Nodes are numbered 0..U+N-1: users first, then items; item i is node U + i - 1. A training step computes the vectors
    of its own nodes from their neighbourhoods. Ranking needs all nodes repeatedly: outside training they are computed
    once and cached until the mode changes or other weights are loaded.

    Letters, besides the usual: U users, n nodes.

    Args:
        item_encoder: tower of the item vectors before propagation. It must not need raw content, because a step reads
            all neighbours of the batch's items.
        num_items: N.
    """

    examples = "pairs"
    known_users_only = True

    def __init__(self, item_encoder: ItemEncoder, num_users: int, num_items: int) -> None:
        if item_encoder.reads:
            raise InputError(
                f"encoder reads {' and '.join(sorted(item_encoder.reads))}, but a graph model needs the vectors of "
                "items outside the batch and accepts no encoder that reads content; use id, features or fusions of "
                "them (microlens features extracts features with any encoder)."
            )
        super().__init__(item_encoder)
        self.num_users, self.num_items = num_users, num_items
        self.cached: Tensor | None = None
        self.register_load_state_dict_post_hook(_drop_cached)  # type: ignore[no-untyped-call]

    @abstractmethod
    def node_vectors(self, nodes: Tensor) -> Tensor:
        """The vectors of ``nodes`` (n,), with repeats allowed, after propagation: (n, D)."""

    def propagate(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors of users (B,) and items (M,), given by number, after propagation: (B, D) and (M, D)."""
        nodes = torch.cat([users, items + (self.num_users - 1)])  # (B + M,)
        if self.training or torch.is_grad_enabled():
            vectors = self.node_vectors(nodes)
        else:
            if self.cached is None:
                self.cached = self.node_vectors(torch.arange(self.num_users + self.num_items, device=nodes.device))
            vectors = self.cached[nodes]
        return vectors[: len(users)], vectors[len(users) :]

    @property
    def reads_of_new(self) -> None:
        """None: an item outside the catalogue is no node."""
        return None

    def encode_items(self, items: ItemBatch) -> Tensor:
        """The item vectors after propagation: (M, D)."""
        return self.propagate(items.items.new_empty(0), items.items)[1]

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The user vectors after propagation: (B, D)."""
        return self.propagate(users, users.new_empty(0))[0]

    def train(self, mode: bool = True) -> "GraphRecommender":
        """Set the mode and drop cached vectors, because the weights change next or have changed."""
        self.cached = None
        return super().train(mode)


def _drop_cached(model: nn.Module, incompatible_keys: Any) -> None:
    assert isinstance(model, GraphRecommender)
    model.cached = None
