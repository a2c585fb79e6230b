"""LightGCN (He et al. 2020, arXiv 2002.02126): linear propagation, averaged over layers."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.recommenders.adjacency import Adjacency, distinct_nodes, inverse_index, weighted_sums
from microlens.recommenders.graph import GraphRecommender


class LightGCN(GraphRecommender):
    """Linear propagation over the symmetrically normalised user-item graph, averaged over layers (He et al. 2020).

    E(k+1) = A E(k), and a node's vector is the mean of its rows of E(0), ..., E(K) (equations 7 and 4). A step computes
    only the rows that it needs: with one layer, as in the paper's table, the neighbours of the batch.

    Args:
        item_encoder: tower of E(0) for items, with output size ``dim``.
        dim: D, the size of vectors.
        num_users: U.
        num_items: N.
        train_pairs: user numbers (T,) and item numbers (T,) of the training set.
        layers: K, the number of propagations, at least 1.
    """

    def __init__(
        self,
        *,
        item_encoder: ItemEncoder,
        dim: int,
        num_users: int,
        num_items: int,
        train_pairs: tuple[Tensor, Tensor],
        layers: int = 1,
    ) -> None:
        super().__init__(item_encoder, num_users, num_items)
        if layers < 1:
            raise ValueError(f"layers = {layers}: at least 1 is needed")
        self.layers = layers
        self.adjacency = Adjacency(train_pairs, num_users, num_items)
        self.user_table = nn.Parameter(init.xavier_normal_(Tensor(num_users, dim)))

    def node_vectors(self, nodes: Tensor) -> Tensor:
        """The mean over layers of the rows of ``nodes`` (n,): (n, D)."""
        count = self.num_users + self.num_items
        needed = [distinct_nodes(count, nodes)]  # nodes of E(K), of E(K-1), ..., of E(0)
        edges = []
        for _ in range(self.layers):
            edges.append(self.adjacency.rows(needed[-1]))
            needed.append(distinct_nodes(count, needed[-1], edges[-1][0]))
        vectors = self._initial_vectors(needed[-1])  # (len(needed[-1]), D)
        total = vectors[inverse_index(needed[-1], count)[nodes]]  # (n, D)
        for inner, outer, (neighbours, weights, begins) in zip(
            needed[:0:-1], needed[-2::-1], reversed(edges), strict=True
        ):
            vectors = weighted_sums(vectors, inverse_index(inner, count)[neighbours], weights, begins)
            total = total + vectors[inverse_index(outer, count)[nodes]]
        return total / (self.layers + 1)

    def _initial_vectors(self, nodes: Tensor) -> Tensor:
        """The rows of E(0) of ascending ``nodes`` (n,): (n, D)."""
        is_user = nodes < self.num_users  # (n,)
        users = functional.embedding(nodes[is_user], self.user_table)
        items: Tensor = self.item_encoder(ItemBatch(items=nodes[~is_user] - (self.num_users - 1)))
        return torch.cat([users, items])
