"""The user-item graph as sparse rows, sums over the neighbours of nodes, and linear propagation."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.encoders.lookup_table import LookupTable


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
    """The distinct nodes below ``count``, ascending, by marking them or, where they are few, by sorting."""
    if _few(sum(map(len, nodes)), count):
        distinct: Tensor = torch.unique(torch.cat(nodes))
        return distinct
    present = torch.zeros(count, dtype=torch.bool, device=nodes[0].device)  # (count,)
    for some in nodes:
        present[some] = True
    return present.nonzero().squeeze(1)


def indices_in(nodes: Tensor, wanted: Tensor, count: int) -> Tensor:
    """The index of each of ``wanted`` (m,) in the ascending ``nodes`` (n,), which contain them all: (m,)."""
    if _few(len(nodes) + len(wanted), count):
        return torch.searchsorted(nodes, wanted)
    positions = torch.empty(count, dtype=torch.int64, device=nodes.device)
    positions[nodes] = torch.arange(len(nodes), device=nodes.device)
    return positions[wanted]


def _few(nodes: int, count: int) -> bool:
    """True where sorting ``nodes`` costs less than an array of length ``count``, a ratio measured on a CPU."""
    return nodes < count // 128


def weighted_sums(vectors: Tensor, indices: Tensor, weights: Tensor, begins: Tensor) -> Tensor:
    """Weighted sums of the rows ``indices`` (E,) of ``vectors`` (m, D), in segments from ``begins`` (n,): (n, D)."""
    summed: Tensor = _WeightedSums.apply(vectors, indices, weights.to(vectors.dtype), begins)  # type: ignore[no-untyped-call]
    return summed


def edge_products(receivers: Tensor, senders: Tensor, indices: Tensor, begins: Tensor) -> Tensor:
    """Dot products along edges: of ``receivers`` (n, D) with the rows ``indices`` (E,) of ``senders`` (m, D), (E,).

    The edges of each receiver are a segment, from ``begins`` (n,). Half precision becomes float32.
    """
    dtype = torch.promote_types(torch.promote_types(receivers.dtype, senders.dtype), torch.float32)
    products: Tensor = _EdgeProducts.apply(receivers.to(dtype), senders.to(dtype), indices, begins)  # type: ignore[no-untyped-call]
    return products


class _WeightedSums(torch.autograd.Function):
    """Sums whose gradients are sums and products along the same edges; PyTorch's own adds edge by edge."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, indices: Tensor, weights: Tensor, begins: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, indices, weights, begins)
        return _sums(vectors, indices, weights, begins)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        vectors, indices, weights, begins = ctx.saved_tensors
        of_vectors, _, of_weights, _ = ctx.needs_input_grad
        return (
            _sums_back(gradient, indices, weights, begins, len(vectors)) if of_vectors else None,
            None,
            _products(gradient, vectors, indices, begins).to(weights.dtype) if of_weights else None,
            None,
        )


class _EdgeProducts(torch.autograd.Function):
    """Products without a stored vector per edge, in either direction."""

    @staticmethod
    def forward(ctx: Any, receivers: Tensor, senders: Tensor, indices: Tensor, begins: Tensor) -> Tensor:
        ctx.save_for_backward(receivers, senders, indices, begins)
        return _products(receivers, senders, indices, begins)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        receivers, senders, indices, begins = ctx.saved_tensors
        of_receivers, of_senders, _, _ = ctx.needs_input_grad
        return (
            _sums(senders, indices, gradient, begins) if of_receivers else None,
            _sums_back(receivers, indices, gradient, begins, len(senders)) if of_senders else None,
            None,
            None,
        )


def _sums(vectors: Tensor, indices: Tensor, weights: Tensor, begins: Tensor) -> Tensor:
    return functional.embedding_bag(indices, vectors, begins, mode="sum", per_sample_weights=weights)


def _sums_back(vectors: Tensor, indices: Tensor, weights: Tensor, begins: Tensor, count: int) -> Tensor:
    """Sums over the same edges in the other direction: of ``vectors`` (n, D) at each of the ``count`` indices."""
    lengths = functional.pad(begins, (0, 1), value=len(indices)).diff()  # (n,)
    receivers = torch.repeat_interleave(lengths, output_size=len(indices))  # (E,)
    order = indices.argsort(stable=True)
    ends = torch.bincount(indices, minlength=count).cumsum(0)  # (count,)
    return _sums(vectors, receivers[order], weights[order], functional.pad(ends, (1, 0))[:-1])


def _products(receivers: Tensor, senders: Tensor, indices: Tensor, begins: Tensor) -> Tensor:
    # A sparse tensor holds at most as many values as it has cells, too few where tiny graphs repeat edges.
    more = max(0, -(-len(indices) // max(1, len(senders))) - len(receivers))
    offsets = functional.pad(begins, (0, 1 + more), value=len(indices))  # (n+1,)
    dtype = torch.promote_types(receivers.dtype, torch.float32)  # half precision is not supported
    rows = functional.pad(receivers.to(dtype), (0, 0, 0, more))  # (n, D)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)  # PyTorch calls it beta
        edges = torch.sparse_csr_tensor(
            offsets, indices, rows.new_zeros(len(indices)), (len(rows), len(senders)), check_invariants=False
        )
    products: Tensor = torch.sparse.sampled_addmm(edges, rows, senders.to(dtype).t(), beta=0.0).values()
    return products


@dataclass(frozen=True)
class Hop:
    """A propagation from inner nodes (m,) to outer ones (n,) that are among them, both ascending.

    Attributes:
        nodes: (n,) the outer nodes.
        own: (n,) the position of each outer node among the inner nodes.
        senders: (E,) the position of the neighbour among the inner nodes, of each edge.
        weights: (E,) those of the adjacency.
        begins: (n,) the start of each outer node's edges.
    """

    nodes: Tensor
    own: Tensor
    senders: Tensor
    weights: Tensor
    begins: Tensor

    def sums(self, vectors: Tensor) -> Tensor:
        """Sum the inner vectors (m, D) of each outer node's neighbours, weighted by the adjacency: (n, D)."""
        return weighted_sums(vectors, self.senders, self.weights, self.begins)

    def means(self, vectors: Tensor) -> Tensor:
        """The mean of the inner vectors (m, D) of each outer node's neighbours, 0 without any: (n, D)."""
        degrees = functional.pad(self.begins, (0, 1), value=len(self.senders)).diff()  # (n,)
        shares = degrees.to(vectors.dtype).reciprocal().repeat_interleave(degrees, output_size=len(self.senders))
        return weighted_sums(vectors, self.senders, shares, self.begins)


def neighbourhood(nodes: Tensor, layers: int, adjacency: Adjacency) -> tuple[Tensor, list[Hop]]:
    """What ``nodes`` (n,), with repeats allowed, depend on through ``layers`` propagations, at least 1.

    Returns:
        The nodes whose initial vectors are needed, ascending, and the propagations in order. The last one ends at the
        distinct ``nodes``.
    """
    count = len(adjacency.offsets) - 1
    outer, hops = distinct_nodes(count, nodes), []
    for _ in range(layers):
        neighbours, weights, begins = adjacency.rows(outer)
        inner = distinct_nodes(count, outer, neighbours)
        own, senders = indices_in(inner, outer, count), indices_in(inner, neighbours, count)
        hops.append(Hop(outer, own, senders, weights, begins))
        outer = inner
    return outer, hops[::-1]


def mean_over_layers(nodes: Tensor, layers: int, adjacency: Adjacency, initial: Callable[[Tensor], Tensor]) -> Tensor:
    """The rows of the mean of E(0), ..., E(layers) with E(k+1) = A E(k): (n, D).

    Only the rows that ``nodes`` depend on are computed.

    Args:
        nodes: (n,), with repeats allowed.
        layers: the number of propagations, at least 1.
        adjacency: A.
        initial: computes the rows of E(0) of distinct ascending nodes.
    """
    count = len(adjacency.offsets) - 1
    first, hops = neighbourhood(nodes, layers, adjacency)
    vectors = initial(first)  # (len(first), D)
    total = vectors[indices_in(first, nodes, count)]  # (n, D)
    for hop in hops:
        vectors = hop.sums(vectors)
        total = total + vectors[indices_in(hop.nodes, nodes, count)]
    return total / (layers + 1)


def id_rows(nodes: Tensor, user_table: LookupTable, item_encoder: ItemEncoder) -> Tensor:
    """The vectors before propagation of ascending ``nodes`` (n,), users (U, D) first: (n, D)."""
    is_user = nodes < len(user_table)  # (n,)
    users = user_table.rows(nodes[is_user])
    items: Tensor = item_encoder(ItemBatch(items=nodes[~is_user] - (len(user_table) - 1)))
    return torch.cat([users, items])
