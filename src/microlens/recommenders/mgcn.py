"""MGCN (Yu et al. 2023, arXiv 2308.03588): features purified by behaviour, in views of their own, then fused."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder
from microlens.encoders.lookup_table import LookupTable
from microlens.recommenders.adjacency import Adjacency, id_rows, mean_over_layers, weighted_sums
from microlens.recommenders.graph import GraphRecommender
from microlens.recommenders.item_graph import similarity_graph
from microlens.recommenders.modalities import ProjectedFeatures, load_modalities, mean_square

TEMPERATURE = 0.2


class MGCN(GraphRecommender):
    """The sum of a behaviour view, LightGCN over ids, and a content view, fused from one view per modality.

    With e the id vectors of items and f the features of a modality m,

        purifier:        x = e * sigmoid(W2 (W1 f + b1) + b2)
        item-item view:  c(m) of an item = S(m)^l x, S(m) being the normalised cosines of its K most similar items
        user-item view:  c(m) of a user = sum over the user's items of c(m) / sqrt(degree * degree)
        behaviour view:  b = mean over layers of LightGCN
        fuser:           s = sum over m of a(m) c(m), a the softmax over m of q . tanh(W c(m) + w)
                         c = (s + sum over m of sigmoid(G(m) b + g(m)) * (c(m) - s)) / (number of modalities + 1)

    and the final vector of a user or an item is b + c (Yu et al. 2023). With one modality there is nothing to fuse and
    c = c(m). The penalty is ``contrastive_weight`` times the contrastive loss, in which c of an item of the batch finds
    its b among those of the others by cosine, at temperature 0.2, and likewise for users, plus ``regularization`` times
    the mean squares of the batch's final vectors. With ``train.loss = "bpr"`` the rest is the paper's.

    The divisor of the fuser is that of the authors' implementation, where the contrastive loss reads the target items
    alone, repeats included; here, the distinct items of the batch. Features stay frozen, which the authors train, too.

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
        contrastive_weight: at least 0; the paper has 0.001 to 0.1.
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
        neighbours: int = 10,
        layers: int = 2,
        item_layers: int = 1,
        contrastive_weight: float = 0.01,
        regularization: float = 1e-4,
    ) -> None:
        super().__init__(item_encoder, num_users, num_items)
        if layers < 1 or item_layers < 1 or contrastive_weight < 0 or regularization < 0:
            raise ValueError(
                f"layers = {layers}, item_layers = {item_layers}, contrastive_weight = {contrastive_weight:g}, "
                f"regularization = {regularization:g}: at least 1, 1, 0 and 0 are needed"
            )
        matrices = load_modalities(features, item_ids)
        self.layers, self.item_layers = layers, item_layers
        self.contrastive_weight, self.regularization = contrastive_weight, regularization
        self.frozen_graphs = nn.ModuleList(similarity_graph(matrix, neighbours) for matrix in matrices)
        self.adjacency = Adjacency(train_pairs, num_users, num_items)
        self.user_table = LookupTable(init.xavier_normal_(Tensor(num_users, dim)))
        self.projections = nn.ModuleList(ProjectedFeatures(matrix, dim) for matrix in matrices)
        self.purifiers = nn.ModuleList(nn.Linear(dim, dim) for _ in matrices)
        self.fuser = Fuser(dim, len(matrices)) if len(matrices) > 1 else None

    def node_vectors(self, nodes: Tensor) -> Tensor:
        """The vectors of ``nodes`` (n,): (n, D)."""
        behaviour, content = self._views(nodes)
        return behaviour + content

    def penalty(self, users: Tensor, items: Tensor) -> Tensor:
        """The weighted contrastive loss of users (B,) and items (M,), and the mean squares of their vectors."""
        distinct = torch.unique(users)
        behaviour, content = self._views(torch.cat([distinct, items + (self.num_users - 1)]))
        parts = slice(None, len(distinct)), slice(len(distinct), None)  # users, items
        pairs = [(content[part], behaviour[part]) for part in parts]
        contrast = torch.stack([contrastive_loss(of_content, of_ids) for of_content, of_ids in pairs]).sum()
        squares = torch.stack([mean_square(of_content + of_ids) for of_content, of_ids in pairs]).sum()
        return self.contrastive_weight * contrast + self.regularization * squares

    def _views(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """The behaviour view b and the content view c of ``nodes`` (n,): (n, D) each."""
        behaviour = mean_over_layers(
            nodes, self.layers, self.adjacency, lambda rows: id_rows(rows, self.user_table, self.item_encoder)
        )
        ids = self.item_encoder(ItemBatch(items=torch.arange(1, self.num_items + 1, device=nodes.device)))  # e, (N, D)
        views = [self._content(nodes, ids, modality) for modality in range(len(self.projections))]
        return behaviour, self.fuser(torch.stack(views), behaviour) if self.fuser else views[0]

    def _content(self, nodes: Tensor, ids: Tensor, modality: int) -> Tensor:
        """c(m) of ``nodes`` (n,) in one modality: (n, D)."""
        gate = self.purifiers[modality](self.projections[modality]()).sigmoid()
        everyone = torch.arange(self.num_items, device=nodes.device)
        items: Tensor = self.frozen_graphs[modality](ids * gate, self.item_layers, everyone)  # (N, D)
        is_user = nodes < self.num_users
        neighbours, weights, begins = self.adjacency.rows(nodes[is_user])
        content = items.new_zeros(len(nodes), items.shape[1])
        content = content.index_put((is_user,), weighted_sums(items, neighbours - self.num_users, weights, begins))
        return content.index_put((~is_user,), items[nodes[~is_user] - self.num_users])


class Fuser(nn.Module):
    """Fuses views of modalities by attention, with what is special to each gated by behaviour.

    Args:
        dim: D.
        modalities: number of views.
    """

    def __init__(self, dim: int, modalities: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1, bias=False))
        self.gates = nn.ModuleList(nn.Linear(dim, dim) for _ in range(modalities))

    def forward(self, views: Tensor, behaviour: Tensor) -> Tensor:
        """The fused view from ``views`` (modalities, n, D) and the behaviour view (n, D): (n, D)."""
        common = (self.attention(views).softmax(0) * views).sum(0)  # s, (n, D)
        gates = torch.stack([gate(behaviour).sigmoid() for gate in self.gates])  # (modalities, n, D)
        fused: Tensor = (common + (gates * (views - common)).sum(0)) / (len(views) + 1)
        return fused


def contrastive_loss(views: Tensor, others: Tensor) -> Tensor:
    """The mean cross-entropy of finding each row of ``others`` (n, D) by that of ``views`` (n, D), by cosine."""
    logits = functional.normalize(views, dim=1) @ functional.normalize(others, dim=1).T / TEMPERATURE  # (n, n)
    own = torch.arange(len(logits), device=logits.device)
    return functional.cross_entropy(logits, own, reduction="sum") / max(1, len(logits))
