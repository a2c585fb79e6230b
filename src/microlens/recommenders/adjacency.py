"""The user-item graph as sparse rows, and sums over the neighbours of nodes."""

import torch
from torch import Tensor, nn
from torch.nn import functional


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
