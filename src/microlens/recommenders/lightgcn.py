"""LightGCN (He et al. 2020, arXiv 2002.02126): neighbours' vectors averaged over layers, and nothing else."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.recommenders.graph import Adjacency, GraphRecommender, ascending, places_in, weighted_sums


class LightGCN(GraphRecommender):
    """Vectors of users and items, propagated over the symmetrically normalised graph of the train part.

    E(k+1) = A E(k), and a node's vector is the mean of its rows of E(0), ..., E(K) (equations 7 and 4). A step
    computes the rows that it needs and no others: with one layer, as the paper's table was made, those are the
    neighbours of the batch.

    Args:
        item_encoder: tower of E(0) for items, of size ``dim``.
        dim: D.
        num_users: U.
        num_items: N.
        train_pairs: user numbers (T,) and item numbers (T,) of the train part.
        layers: K, at least 1.
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
        needed = [ascending(count, nodes)]  # nodes of E(K), of E(K-1), ..., of E(0)
        edges = []
        for _ in range(self.layers):
            edges.append(self.adjacency.rows(needed[-1]))
            needed.append(ascending(count, needed[-1], edges[-1][0]))
        vectors = self._before(needed[-1])
        total = vectors[places_in(needed[-1], count)[nodes]]
        for inner, outer, (neighbours, weights, begins) in zip(
            needed[:0:-1], needed[-2::-1], reversed(edges), strict=True
        ):
            vectors = weighted_sums(vectors, places_in(inner, count)[neighbours], weights, begins)
            total = total + vectors[places_in(outer, count)[nodes]]
        return total / (self.layers + 1)

    def _before(self, nodes: Tensor) -> Tensor:
        """The rows of E(0) of ``nodes`` (n,), ascending: (n, D)."""
        is_user = nodes < self.num_users
        users = functional.embedding(nodes[is_user], self.user_table)
        items: Tensor = self.item_encoder(ItemBatch(items=nodes[~is_user] - (self.num_users - 1)))
        return torch.cat([users, items])
