"""The contract of models that propagate vectors over the user-item graph of the training set, and that graph."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

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


class Adjacency(nn.Module):
    """The user-item graph of the training set in CSR form over all nodes, with weights 1 / sqrt(degree * degree).

    Args:
        pairs: user numbers (T,) and item numbers (T,); duplicates count once.
        num_users: U.
        num_items: N.
    """

    offsets: Tensor
    neighbours: Tensor
    weights: Tensor

    def __init__(self, pairs: tuple[Tensor, Tensor], num_users: int, num_items: int) -> None:
        super().__init__()
        nodes = num_users + num_items
        users, items = torch.unique(torch.stack([pairs[0], pairs[1] + (num_users - 1)]), dim=1)  # node indices (T,)
        keys = torch.cat([users * nodes + items, items * nodes + users]).sort().values  # (2T,) row-major edge keys
        rows, neighbours = keys // nodes, keys % nodes  # (2T,)
        degrees = torch.bincount(rows, minlength=nodes)  # (U + N,)
        weights = (degrees[rows] * degrees[neighbours]).double().rsqrt().float()  # (2T,)
        for name, values in (
            ("offsets", functional.pad(degrees.cumsum(0), (1, 0))),
            ("neighbours", neighbours),
            ("weights", weights),
        ):
            self.register_buffer(name, values, persistent=False)

    def rows(self, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The E edges of ``nodes`` (n,): neighbours (E,), weights (E,), and the start of each node's edges (n,)."""
        lengths = self.offsets[nodes + 1] - self.offsets[nodes]  # (n,)
        begins = lengths.cumsum(0) - lengths  # (n,)
        positions = torch.arange(int(lengths.sum()), device=nodes.device)  # (E,)
        positions += (self.offsets[nodes] - begins).repeat_interleave(lengths)
        return self.neighbours[positions], self.weights[positions], begins


def distinct_nodes(count: int, *nodes: Tensor) -> Tensor:
    """The distinct nodes below ``count``, ascending. Marking them is several times as fast as sorting."""
    present = torch.zeros(count, dtype=torch.bool, device=nodes[0].device)  # (count,)
    for some in nodes:
        present[some] = True
    return present.nonzero().squeeze(1)


def inverse_index(nodes: Tensor, count: int) -> Tensor:
    """The inverse of ``nodes`` (n,): (count,), the index of each node in ``nodes``, undefined for absent nodes."""
    positions = torch.empty(count, dtype=torch.int64, device=nodes.device)
    positions[nodes] = torch.arange(len(nodes), device=nodes.device)
    return positions


def weighted_sums(vectors: Tensor, indices: Tensor, weights: Tensor, begins: Tensor) -> Tensor:
    """Weighted sums of the rows ``indices`` (E,) of ``vectors`` (m, D), in segments from ``begins`` (n,): (n, D)."""
    summed: Tensor = functional.embedding_bag(
        indices, vectors, begins, mode="sum", per_sample_weights=weights.to(vectors.dtype)
    )
    return summed
