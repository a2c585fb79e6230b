"""Graphs that join each item to the items of the most similar features."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from microlens.recommenders.adjacency import weighted_sums

ROWS_AT_ONCE = 1024


def nearest_items(features: Tensor, count: int) -> Tensor:
    """The ``count`` items of the highest cosine to each item's features (N, F), itself among them: (N, count).

    An item with ``count`` or more others of the same features, or with features of 0, may have those in its place. The
    search is exact; items are numbered from 0. The similarities of 1,024 items are in memory at a time.

    Raises:
        ValueError: ``count`` is not between 1 and N.
    """
    if not 1 <= count <= len(features):
        raise ValueError(f"neighbours = {count}: it must be between 1 and the number of items, {len(features)}")
    unit = functional.normalize(features.detach(), dim=1)
    starts = range(0, len(unit), ROWS_AT_ONCE)
    return torch.cat([(unit[start : start + ROWS_AT_ONCE] @ unit.T).topk(count, 1).indices for start in starts])


def cosines(features: Tensor, neighbours: Tensor) -> Tensor:
    """The cosine of the features (N, F) of each item and of its ``neighbours`` (N, K), negative ones as 0: (N, K)."""
    unit = functional.normalize(features, dim=1)
    products = []
    for start in range(0, len(unit), ROWS_AT_ONCE):
        near = functional.embedding(neighbours[start : start + ROWS_AT_ONCE], unit)  # (n, K, F)
        products.append(torch.einsum("nf,nkf->nk", unit[start : start + ROWS_AT_ONCE], near))
    return torch.cat(products).relu()


def normalised(weights: Tensor, neighbours: Tensor) -> Tensor:
    """D^-1/2 W D^-1/2 of the weights (N, K) of ``neighbours`` (N, K), D being the sum of a row's weights: (N, K)."""
    scales = weights.sum(1).clamp(min=1e-7).rsqrt()  # (N,)
    return weights * scales[:, None] * scales[neighbours]


class ItemGraph(nn.Module):
    """Weighted edges from each of N items to its K neighbours, with repeats allowed.

    Args:
        neighbours: (N, K) items, from 0.
        weights: (N, K).
    """

    neighbours: Tensor
    weights: Tensor

    def __init__(self, neighbours: Tensor, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("neighbours", neighbours, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, vectors: Tensor, layers: int, items: Tensor) -> Tensor:
        """The rows of ``items`` (M,), from 0, after ``layers`` propagations of all items' vectors (N, D): (M, D)."""
        return propagated(vectors, self.neighbours, self.weights, layers, items)


def similarity_graph(features: Tensor, count: int) -> ItemGraph:
    """The graph of the ``count`` items of the most similar ``features`` (N, F), weighted by cosines and normalised."""
    nearest = nearest_items(features, count)
    return ItemGraph(nearest, normalised(cosines(features, nearest), nearest))


def propagated(vectors: Tensor, neighbours: Tensor, weights: Tensor, layers: int, items: Tensor) -> Tensor:
    """The rows of ``items`` (M,), from 0, after ``layers`` propagations of all items' vectors (N, D): (M, D).

    Args:
        vectors: (N, D).
        neighbours: (N, K), items from 0.
        weights: (N, K).
        layers: at least 0.
        items: (M,).
    """
    for _ in range(layers - 1):
        vectors = neighbour_sums(vectors, neighbours, weights)
    return neighbour_sums(vectors, neighbours[items], weights[items]) if layers else vectors[items]


def neighbour_sums(vectors: Tensor, neighbours: Tensor, weights: Tensor) -> Tensor:
    """Sum the vectors (N, D) of ``neighbours`` (M, K), weighted by ``weights`` (M, K): (M, D)."""
    begins = torch.arange(0, neighbours.numel(), neighbours.shape[1], device=neighbours.device)  # (M,)
    return weighted_sums(vectors, neighbours.flatten(), weights.flatten(), begins)
