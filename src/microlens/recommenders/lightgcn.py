"""LightGCN (He et al. 2020, arXiv 2002.02126): linear propagation, averaged over layers."""

from torch import Tensor
from torch.nn import init

from microlens.encoders.base import ItemEncoder
from microlens.encoders.lookup_table import LookupTable
from microlens.recommenders.adjacency import Adjacency, id_rows, mean_over_layers
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
        self.user_table = LookupTable(init.xavier_normal_(Tensor(num_users, dim)))

    def node_vectors(self, nodes: Tensor) -> Tensor:
        """The mean over layers of the rows of ``nodes`` (n,): (n, D)."""
        return mean_over_layers(
            nodes, self.layers, self.adjacency, lambda rows: id_rows(rows, self.user_table, self.item_encoder)
        )
