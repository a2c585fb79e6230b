"""The contract of models that propagate over the graph of users and their train items, and that graph."""

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

    Nodes are numbered users first, 0..U-1, then items, item i being node U + i - 1. A training step computes the
    vectors of its own nodes from what is near them. Ranking needs all nodes many times: outside training they are
    computed once and kept until the model is put into another mode or takes other weights.

    Letters, besides the usual: U users, n nodes.

    Args:
        item_encoder: tower of the items' vectors before propagation; it may not need raw content, because a step
            reads all items near those of its batch.
        num_users: U.
        num_items: N.
    """

    examples = "pairs"
    known_users_only = True

    def __init__(self, item_encoder: ItemEncoder, num_users: int, num_items: int) -> None:
        if item_encoder.reads:
            raise InputError(
                f"encoder reads {' and '.join(sorted(item_encoder.reads))}, but a graph model reads items beyond the "
                "batch and takes none that does; use id, features or fusions of them (microlens features makes "
                "features with any encoder)."
            )
        super().__init__(item_encoder)
        self.num_users, self.num_items = num_users, num_items
        self.kept: Tensor | None = None
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    @abstractmethod
    def node_vectors(self, nodes: Tensor) -> Tensor:
        """The vectors after propagation of ``nodes`` (n,), which may repeat: (n, D)."""

    def propagate(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors after propagation of users (B,) and items (M,) by number: (B, D) and (M, D)."""
        nodes = torch.cat([users, items + (self.num_users - 1)])
        if self.training or torch.is_grad_enabled():
            vectors = self.node_vectors(nodes)
        else:
            if self.kept is None:
                self.kept = self.node_vectors(torch.arange(self.num_users + self.num_items, device=nodes.device))
            vectors = self.kept[nodes]
        return vectors[: len(users)], vectors[len(users) :]

    def encode_items(self, items: ItemBatch) -> Tensor:
        """The items' vectors after propagation: (M, D)."""
        return self.propagate(items.items.new_empty(0), items.items)[1]

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The users' vectors after propagation: (B, D)."""
        return self.propagate(users, users.new_empty(0))[0]

    def train(self, mode: bool = True) -> "GraphRecommender":
        """Forget what was propagated: the weights change next, or have changed."""
        self.kept = None
        return super().train(mode)


def _forget(model: nn.Module, incompatible_keys: Any) -> None:
    assert isinstance(model, GraphRecommender)
    model.kept = None


class Adjacency(nn.Module):
    """Who had what in the train part, as CSR rows over all nodes, each edge 1 / sqrt(degree * degree) heavy.

    Args:
        pairs: user numbers (T,) and item numbers (T,); what occurs twice counts once.
        num_users: U.
        num_items: N.
    """

    offsets: Tensor
    neighbours: Tensor
    weights: Tensor

    def __init__(self, pairs: tuple[Tensor, Tensor], num_users: int, num_items: int) -> None:
        super().__init__()
        nodes = num_users + num_items
        users, items = torch.unique(torch.stack([pairs[0], pairs[1] + (num_users - 1)]), dim=1)
        keys = torch.cat([users * nodes + items, items * nodes + users]).sort().values
        rows, neighbours = keys // nodes, keys % nodes
        degrees = torch.bincount(rows, minlength=nodes)
        weights = (degrees[rows] * degrees[neighbours]).double().rsqrt().float()
        for name, values in (
            ("offsets", functional.pad(degrees.cumsum(0), (1, 0))),
            ("neighbours", neighbours),
            ("weights", weights),
        ):
            self.register_buffer(name, values, persistent=False)

    def rows(self, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The edges of ``nodes`` (n,): neighbours (E,), weights (E,), and where each node's begin (n,)."""
        lengths = self.offsets[nodes + 1] - self.offsets[nodes]
        begins = lengths.cumsum(0) - lengths
        positions = torch.arange(int(lengths.sum()), device=nodes.device)
        positions += (self.offsets[nodes] - begins).repeat_interleave(lengths)
        return self.neighbours[positions], self.weights[positions], begins


def ascending(count: int, *nodes: Tensor) -> Tensor:
    """The distinct ones of nodes below ``count``, ascending; marking them is several times as fast as sorting them."""
    there = torch.zeros(count, dtype=torch.bool, device=nodes[0].device)
    for some in nodes:
        there[some] = True
    return there.nonzero().squeeze(1)


def places_in(nodes: Tensor, count: int) -> Tensor:
    """Where each node below ``count`` stands in ``nodes`` (n,), (count,); anything where it does not."""
    positions = torch.empty(count, dtype=torch.int64, device=nodes.device)
    positions[nodes] = torch.arange(len(nodes), device=nodes.device)
    return positions


def weighted_sums(vectors: Tensor, indices: Tensor, weights: Tensor, begins: Tensor) -> Tensor:
    """Sums of ``vectors`` (m, D): rows ``indices`` (E,) times ``weights`` (E,), cut at ``begins`` (n,): (n, D)."""
    summed: Tensor = functional.embedding_bag(
        indices, vectors, begins, mode="sum", per_sample_weights=weights.to(vectors.dtype)
    )
    return summed
