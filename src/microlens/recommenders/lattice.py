"""LATTICE (Zhang et al. 2021, arXiv 2104.09036): ids propagated over a graph of items that is learned from features."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder
from microlens.encoders.lookup_table import LookupTable
from microlens.recommenders.adjacency import Adjacency, id_rows, mean_over_layers
from microlens.recommenders.graph import GraphRecommender
from microlens.recommenders.item_graph import cosines, nearest_items, normalised, propagated, similarity_graph
from microlens.recommenders.modalities import ProjectedFeatures, load_modalities


class LATTICE(GraphRecommender):
    """LightGCN plus item vectors propagated over graphs of similar items, frozen and learned (Zhang et al. 2021).

    In modality m, an item's neighbours are the K items of the highest cosine, itself among them, weighted by the cosine
    (negative ones by 0); S(m) joins them by the frozen features f and L(m) by the projected ones, W f + b, both as
    D^-1/2 S D^-1/2. With e the id vectors and softmax weights a(m), which are learned,

        A = sum over m of a(m) (frozen_share S(m) + (1 - frozen_share) L(m)),    h = A^l e
        u = mean over layers of LightGCN,    i = mean over layers of LightGCN + h / |h|

    Who is a neighbour in L(m) is decided once an epoch, and for ranking; the cosines follow the weights in each step,
    so that W, b and a are trained in all of them. In the authors' implementation a gradient reaches them in the first
    step of an epoch alone, and modalities are added before the graph is normalised. Features stay frozen, which the
    authors train, too.

    Args:
        item_encoder: tower of e for items, with output size ``dim``.
        dim: D.
        num_users: U.
        num_items: N.
        item_ids: (N+1,) the id of each item number.
        train_pairs: user numbers (T,) and item numbers (T,) of the training set.
        features: ``.npy`` file, see :func:`microlens.data.feature_matrix.load_features`, or one per modality.
        neighbours: K, at least 1.
        layers: number of LightGCN's propagations, at least 1.
        item_layers: l, at least 1.
        frozen_share: in [0, 1).
    """

    nearest: Tensor
    outdated: Tensor

    def __init__(
        self,
        *,
        item_encoder: ItemEncoder,
        dim: int,
        num_users: int,
        num_items: int,
        item_ids: ItemIds,
        train_pairs: tuple[Tensor, Tensor],
        features: str | list[str],
        neighbours: int = 10,
        layers: int = 2,
        item_layers: int = 1,
        frozen_share: float = 0.9,
    ) -> None:
        super().__init__(item_encoder, num_users, num_items)
        if layers < 1 or item_layers < 1 or not 0 <= frozen_share < 1:
            raise ValueError(
                f"layers = {layers}, item_layers = {item_layers}, frozen_share = {frozen_share:g}: at least 1 and 1 "
                "are needed, and frozen_share must be at least 0 and below 1"
            )
        matrices = load_modalities(features, item_ids)
        self.layers, self.item_layers, self.frozen_share = layers, item_layers, frozen_share
        self.frozen_graphs = nn.ModuleList(similarity_graph(matrix, neighbours) for matrix in matrices)
        self.adjacency = Adjacency(train_pairs, num_users, num_items)
        self.user_table = LookupTable(init.xavier_normal_(Tensor(num_users, dim)))
        self.projections = nn.ModuleList(ProjectedFeatures(matrix, dim) for matrix in matrices)
        self.modality_logits = nn.Parameter(torch.zeros(len(matrices))) if len(matrices) > 1 else None
        # Saved with the weights, so that a run resumed within an epoch keeps the epoch's graph.
        self.register_buffer("nearest", torch.zeros(len(matrices), num_items, neighbours, dtype=torch.int64))
        self.register_buffer("outdated", torch.tensor(True))

    def node_vectors(self, nodes: Tensor) -> Tensor:
        """The vectors of ``nodes`` (n,): (n, D)."""
        means = mean_over_layers(
            nodes, self.layers, self.adjacency, lambda rows: id_rows(rows, self.user_table, self.item_encoder)
        )
        positions = (nodes >= self.num_users).nonzero().squeeze(1)
        ids = self.item_encoder(ItemBatch(items=torch.arange(1, self.num_items + 1, device=nodes.device)))  # e, (N, D)
        similar = propagated(ids, *self._item_graph(), self.item_layers, nodes[positions] - self.num_users)
        return means.index_add(0, positions, functional.normalize(similar, dim=1))

    def train(self, mode: bool = True) -> "LATTICE":
        """Set the mode; the learned graph is built anew in the first step of training after another mode."""
        if not mode:
            self.outdated.fill_(True)
        super().train(mode)
        return self

    def _item_graph(self) -> tuple[Tensor, Tensor]:
        """The neighbours and weights of A: (N, 2 K modalities) each."""
        projected = [projection() for projection in self.projections]
        nearest = self._nearest(projected)
        shares = projected[0].new_ones(1) if self.modality_logits is None else self.modality_logits.softmax(0)
        neighbours, weights = [], []
        for graph, vectors, near, share in zip(self.frozen_graphs, projected, nearest, shares, strict=True):
            learned = normalised(cosines(vectors, near), near)
            neighbours += [graph.neighbours, near]
            weights += [share * self.frozen_share * graph.weights, share * (1 - self.frozen_share) * learned]
        return torch.cat(neighbours, 1), torch.cat(weights, 1)

    def _nearest(self, projected: list[Tensor]) -> Tensor:
        """The neighbours of each item by the projected features of each modality: (modalities, N, K)."""
        if self.training and not self.outdated:
            return self.nearest
        nearest = torch.stack([nearest_items(vectors, self.nearest.shape[2]) for vectors in projected])
        if self.training:
            self.nearest.copy_(nearest)
            self.outdated.fill_(False)
        return nearest
