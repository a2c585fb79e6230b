"""BM3 (Zhou et al. 2023, arXiv 2207.05969): ids and features learn to predict each other, without negatives."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder
from microlens.encoders.lookup_table import LookupTable
from microlens.recommenders.adjacency import Adjacency, id_rows, mean_over_layers
from microlens.recommenders.dropout import Dropout
from microlens.recommenders.graph import GraphRecommender
from microlens.recommenders.modalities import ProjectedFeatures, load_modalities, mean_square


class BM3(GraphRecommender):
    """LightGCN whose users and items are predicted from each other, and items from features (Zhou et al. 2023).

    With e the id vectors, the vectors before the predictor are

        u = mean over layers of LightGCN,    i = mean over layers of LightGCN + e

    and p is one linear predictor for all. The score is the dot product of p(u) and p(i). With C the cosine, ~ a dropout
    without gradients behind it, and m = W f the projected features of a modality, the loss ``train.loss = "own"`` of a
    user and an item is

        - C(p(u), ~i) - C(p(i), ~u) + 2                                       (reconstruction of the interaction)
        + alignment_weight sum over m of (2 - C(p(m), ~i) - C(p(m), ~m))      (alignment between and within modalities)
        + regularization (mean square of u + mean square of i)

    which needs no negatives. With another loss, features are not used. Cosines are counted from 1, as in the authors'
    implementation, so that the loss is not negative; their penalty is the length of all vectors together. Features stay
    frozen, which the authors train, too.

    Args:
        item_encoder: tower of e for items, with output size ``dim``.
        dim: D.
        num_users: U.
        num_items: N.
        item_ids: (N+1,) the id of each item number.
        train_pairs: user numbers (T,) and item numbers (T,) of the training set.
        features: ``.npy`` file, see :func:`microlens.data.feature_matrix.load_features`, or one per modality.
        layers: number of LightGCN's propagations, at least 1; the paper has 1 or 2.
        dropout: dropout rate of what is predicted; the paper has 0.3 or 0.5.
        alignment_weight: at least 0.
        regularization: at least 0.
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
        layers: int = 1,
        dropout: float = 0.3,
        alignment_weight: float = 2.0,
        regularization: float = 0.1,
    ) -> None:
        super().__init__(item_encoder, num_users, num_items)
        if layers < 1 or alignment_weight < 0 or regularization < 0:
            raise ValueError(
                f"layers = {layers}, alignment_weight = {alignment_weight:g}, regularization = {regularization:g}: at "
                "least 1, 0 and 0 are needed"
            )
        self.layers, self.alignment_weight, self.regularization = layers, alignment_weight, regularization
        self.dropout = Dropout(dropout)
        self.adjacency = Adjacency(train_pairs, num_users, num_items)
        self.user_table = LookupTable(init.xavier_normal_(Tensor(num_users, dim)))
        self.projections = nn.ModuleList(
            ProjectedFeatures(matrix, dim) for matrix in load_modalities(features, item_ids)
        )
        self.predictor = nn.Linear(dim, dim)
        init.xavier_normal_(self.predictor.weight)
        init.zeros_(self.predictor.bias)

    def node_vectors(self, nodes: Tensor) -> Tensor:
        """The predictions of the vectors of ``nodes`` (n,): (n, D)."""
        predicted: Tensor = self.predictor(self._vectors(nodes))
        return predicted

    def own_loss(self, users: Tensor, items: Tensor) -> Tensor:
        """The sum of the losses of pairs of users (Q,) and items (Q,)."""
        vectors = self._vectors(torch.cat([users, items + (self.num_users - 1)]))
        user, item = vectors[: len(users)], vectors[len(users) :]  # (Q, D) each
        hidden_item = self.dropout(item.detach())
        losses = self._distance(user, hidden_item) + self._distance(item, self.dropout(user.detach()))  # (Q,)
        for projection in self.projections:
            content = projection(items - 1)
            to_item, to_itself = (
                self._distance(content, hidden_item),
                self._distance(content, self.dropout(content.detach())),
            )
            losses = losses + self.alignment_weight * (to_item + to_itself)
        return losses.sum() + self.regularization * len(users) * (mean_square(user) + mean_square(item))

    def _distance(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """One minus the cosine of the prediction from ``vectors`` (Q, D) and ``targets`` (Q, D): (Q,)."""
        return 1 - functional.cosine_similarity(self.predictor(vectors), targets)

    def _vectors(self, nodes: Tensor) -> Tensor:
        """u and i of ``nodes`` (n,): (n, D)."""
        means = mean_over_layers(
            nodes, self.layers, self.adjacency, lambda rows: id_rows(rows, self.user_table, self.item_encoder)
        )
        positions = (nodes >= self.num_users).nonzero().squeeze(1)
        ids = self.item_encoder(ItemBatch(items=nodes[positions] - (self.num_users - 1)))
        return means.index_add(0, positions, ids)
