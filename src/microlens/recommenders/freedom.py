"""FREEDOM (Zhou and Shen 2023, arXiv 2211.06924): a frozen item graph beside a pruned user-item graph."""

import math

import torch
from torch import Tensor, nn
from torch.nn import init

from microlens.data.batches import ItemBatch
from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder
from microlens.encoders.lookup_table import LookupTable
from microlens.recommenders.adjacency import Adjacency, id_rows, mean_over_layers
from microlens.recommenders.graph import GraphRecommender
from microlens.recommenders.item_graph import ItemGraph, nearest_items
from microlens.recommenders.modalities import ProjectedFeatures, load_modalities


class FREEDOM(GraphRecommender):
    """LightGCN over a pruned graph, plus item vectors propagated over a frozen graph of similar items.

    The item graph joins each item to the K items of the most similar features in each modality m, itself among them,
    and is never trained:

        S = sum over m of a(m) S(m), where S(m) has 1/K at an item's neighbours

    because all rows of the unweighted graph have K entries, and D^-1/2 S D^-1/2 divides by K. With e the id vectors,
    the vectors of users and items are

        u = mean over layers of LightGCN,    i = mean over layers of LightGCN + S^L e

    In training, LightGCN runs over a share of the edges, drawn without replacement with probabilities proportional to
    1 / sqrt(degree * degree) and normalised again, so that edges of popular items are dropped more often. Ranking uses
    all edges. The loss is that of u and i plus ``side_weight`` times that of u and the projected features W(m) f(m),
    for each modality; with ``train.loss = "bpr"`` it is the paper's.

    Edges are drawn for each step; the authors draw them once an epoch. Features stay frozen, which the authors train,
    too. Items without interactions are ranked through their neighbours in the item graph.

    Args:
        item_encoder: tower of e for items, with output size ``dim``.
        dim: D.
        num_users: U.
        num_items: N.
        item_ids: (N+1,) the id of each item number.
        train_pairs: user numbers (T,) and item numbers (T,) of the training set.
        features: ``.npy`` file, see :func:`microlens.data.feature_matrix.load_features`, or one per modality.
        modality_weights: a(m), at least 0 with a sum of 1; by default all equal. The paper has 0.1 for images and 0.9
            for text.
        neighbours: K, at least 1.
        layers: number of LightGCN's propagations, at least 1.
        item_layers: L, at least 0.
        pruned: share of the edges that a training step leaves out, in [0, 1); the paper has 0.8 or 0.9.
        side_weight: at least 0; the paper has 0 to 1e-3.
    """

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
        modality_weights: list[float] | None = None,
        neighbours: int = 10,
        layers: int = 2,
        item_layers: int = 1,
        pruned: float = 0.8,
        side_weight: float = 1e-3,
    ) -> None:
        super().__init__(item_encoder, num_users, num_items)
        if layers < 1 or item_layers < 0 or side_weight < 0 or not 0 <= pruned < 1:
            raise ValueError(
                f"layers = {layers}, item_layers = {item_layers}, side_weight = {side_weight:g}, pruned = {pruned:g}: "
                "at least 1, 0 and 0 are needed, and pruned must be at least 0 and below 1"
            )
        matrices = load_modalities(features, item_ids)
        self.layers, self.item_layers, self.pruned, self.side_weight = layers, item_layers, pruned, side_weight
        self.item_graph = _frozen_graph(matrices, neighbours, modality_weights)
        self.adjacency = Adjacency(train_pairs, num_users, num_items)
        self.edges = DegreeSensitiveEdges(self.adjacency, num_users, pruned)
        self.user_table = LookupTable(init.xavier_normal_(Tensor(num_users, dim)))
        self.projections = nn.ModuleList(ProjectedFeatures(matrix, dim) for matrix in matrices)

    def node_vectors(self, nodes: Tensor) -> Tensor:
        """The vectors of ``nodes`` (n,): (n, D)."""
        adjacency = self.edges.draw() if self.training and self.pruned else self.adjacency
        means = mean_over_layers(
            nodes, self.layers, adjacency, lambda rows: id_rows(rows, self.user_table, self.item_encoder)
        )
        is_item = nodes >= self.num_users
        ids = self.item_encoder(ItemBatch(items=torch.arange(1, self.num_items + 1, device=nodes.device)))  # e, (N, D)
        similar = self.item_graph(ids, self.item_layers, nodes[is_item] - self.num_users)
        return means.index_add(0, is_item.nonzero().squeeze(1), similar)

    def side_vectors(self, items: Tensor) -> list[tuple[float, Tensor]]:
        """The projected features of each modality, with ``side_weight``."""
        return [(self.side_weight, projection(items - 1)) for projection in self.projections]


def _frozen_graph(matrices: list[Tensor], neighbours: int, weights: list[float] | None) -> ItemGraph:
    """The graph S over the items' features ``matrices``, (N, F) each."""
    shares = [1 / len(matrices)] * len(matrices) if weights is None else weights
    if len(shares) != len(matrices) or min(shares) < 0 or not math.isclose(sum(shares), 1):
        raise ValueError(
            f"modality_weights = {shares}: a weight of at least 0 is needed for each of {len(matrices)} files of "
            "features, with a sum of 1"
        )
    nearest = [nearest_items(matrix, neighbours) for matrix in matrices]
    equal = [torch.full(near.shape, share / neighbours) for near, share in zip(nearest, shares, strict=True)]
    return ItemGraph(torch.cat(nearest, 1), torch.cat(equal, 1))


class DegreeSensitiveEdges(nn.Module):
    """Draws parts of a user-item graph in which edges between nodes of high degree are rare.

    Args:
        adjacency: the graph.
        num_users: U.
        pruned: share of the edges that are left out.
    """

    users: Tensor
    items: Tensor
    chances: Tensor

    def __init__(self, adjacency: Adjacency, num_users: int, pruned: float) -> None:
        super().__init__()
        self.num_users, self.num_items = num_users, len(adjacency.offsets) - 1 - num_users
        neighbours, weights, _ = adjacency.rows(torch.arange(num_users))
        self.kept = max(1, int(len(neighbours) * (1 - pruned)))
        users = torch.arange(num_users).repeat_interleave(adjacency.offsets[: num_users + 1].diff())
        for name, values in (("users", users), ("items", neighbours - (num_users - 1)), ("chances", weights)):
            self.register_buffer(name, values, persistent=False)

    def draw(self) -> Adjacency:
        """A graph of a part of the edges, normalised by its own degrees."""
        kept = self.chosen()
        return Adjacency((self.users[kept], self.items[kept]), self.num_users, self.num_items)

    def chosen(self) -> Tensor:
        """The edges that are kept, drawn without replacement."""
        # The largest of log(chance) plus Gumbel noise are draws without replacement (Efraimidis and Spirakis 2006).
        keys = self.chances.log() - torch.empty_like(self.chances).exponential_().log()
        return keys.topk(self.kept, sorted=False).indices
