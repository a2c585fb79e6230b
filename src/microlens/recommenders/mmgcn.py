"""MMGCN (Wei et al. 2019, "MMGCN: Multi-modal graph convolution network"): one graph per modality, linked by ids."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder
from microlens.recommenders.adjacency import Adjacency, Hop, indices_in, neighbourhood
from microlens.recommenders.dropout import Dropout
from microlens.recommenders.graph import GraphRecommender
from microlens.recommenders.modalities import Modality, id_vectors, mean_square, modalities_of

Combination = Literal["concat", "sum"]


class MMGCN(GraphRecommender):
    """Graph convolution of users and items in each modality, averaged over modalities (Wei et al. 2019).

    In modality m a node starts at x(0), a learned vector for users and the projected features for items, scaled to unit
    length. With e its id vector, which all modalities share, layer l computes

        h     = LeakyReLU(mean over neighbours of W1 x(l-1))      (aggregation, equation 1)
        x-hat = LeakyReLU(W2 x(l-1) + b2) + e                     (equation 5)
        x(l)  = LeakyReLU(W3 [h, x-hat] + b3)                     (combination "concat")
        x(l)  = LeakyReLU(W3 h + b3 + x-hat)                      (combination "sum", element-wise)

    with separate weights for each modality and layer. The final vector is the mean of x(L) over modalities. Without
    features there is a single graph over ids, x(0) = e scaled to unit length.

    Start vectors, biases, mean and penalty are those of the authors' implementation, where the paper leaves them out.
    There, as in the one behind the MicroLens table, id and user vectors keep their initial values, because they are not
    parameters; here they are trained.

    Args:
        item_encoder: tower of e for items, with output size ``dim``.
        dim: D.
        num_users: U.
        num_items: N.
        item_ids: (N+1,) the id of each item number.
        train_pairs: (T,) user numbers and (T,) item numbers of the training interactions.
        features: one ``.npy`` file for each modality; see :func:`microlens.data.feature_matrix.load_features`.
        layers: L, the number of convolutions, at least 1.
        combination: "concat" as in the implementation behind the MicroLens table, or "sum".
        regularization: weight of the penalty, at least 0: the mean square of the batch's id vectors, users and items,
            and of all users' x(0) before scaling.
        dropout: dropout rate of the messages to neighbours.
    """

    revision = 2  # unit-length starts, biases and the mean over modalities since 0.2.0

    def __init__(
        self,
        *,
        item_encoder: ItemEncoder,
        dim: int,
        num_users: int,
        num_items: int,
        item_ids: ItemIds,
        train_pairs: tuple[Tensor, Tensor],
        features: str | list[str] | None = None,
        layers: int = 3,
        combination: Combination = "concat",
        regularization: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(item_encoder, num_users, num_items)
        if layers < 1 or regularization < 0:
            raise ValueError(f"layers = {layers}, regularization = {regularization:g}: at least 1 and 0 are needed")
        self.regularization = regularization
        self.adjacency = Adjacency(train_pairs, num_users, num_items)
        self.user_table = nn.Parameter(init.xavier_normal_(Tensor(num_users, dim)))
        self.modalities = nn.ModuleList(modalities_of(features, item_ids, dim, num_users))
        graphs = max(1, len(self.modalities))
        self.layers = layers
        self.convolutions = nn.ModuleList(Convolution(dim, combination, dropout) for _ in range(graphs * layers))

    def node_vectors(self, nodes: Tensor) -> Tensor:
        """The mean over modalities of the last layer's rows of ``nodes`` (n,): (n, D)."""
        first, hops = neighbourhood(nodes, self.layers, self.adjacency)
        ids = id_vectors(self.user_table, self.item_encoder, self.num_items)  # (U + N, D)
        ids_of_hops = [ids.index_select(0, hop.nodes) for hop in hops]
        starts = [_initial_vectors(modality) for modality in self.modalities] or [ids]
        lasts = []
        for modality, start in enumerate(starts):
            vectors = functional.normalize(start.index_select(0, first))
            convolutions = self.convolutions[modality * self.layers : (modality + 1) * self.layers]
            for convolution, hop, own_ids in zip(convolutions, hops, ids_of_hops, strict=True):
                vectors = convolution(vectors, own_ids, hop)
            lasts.append(vectors)
        positions = indices_in(hops[-1].nodes, nodes, len(ids))
        return functional.embedding(positions, torch.stack(lasts).mean(0))

    def penalty(self, users: Tensor, items: Tensor) -> Tensor:
        """``regularization`` times the mean squares of the batch's ids and of the users' vectors of each modality."""
        ids = functional.embedding(users, self.user_table), self.item_encoder(ItemBatch(items=items))
        tables = [modality.get_parameter("user_table") for modality in self.modalities]
        return self.regularization * torch.stack([mean_square(vectors) for vectors in (*ids, *tables)]).sum()


def _initial_vectors(modality: nn.Module) -> Tensor:
    """x(0) of all nodes before scaling: (U + N, D)."""
    assert isinstance(modality, Modality)
    return torch.cat([modality.user_table, modality()])


class Convolution(nn.Module):
    """One MMGCN layer of one modality.

    Args:
        dim: D, the size of vectors.
        combination: see :class:`MMGCN`.
        dropout: dropout rate of the messages.
    """

    def __init__(self, dim: int, combination: Combination, dropout: float) -> None:
        super().__init__()
        self.concat = combination == "concat"
        self.dropout = Dropout(dropout)
        self.received = nn.Linear(dim, dim, bias=False)  # W1
        self.own = nn.Linear(dim, dim)  # W2, b2
        self.combined = nn.Linear(2 * dim if self.concat else dim, dim)  # W3, b3
        for linear in (self.received, self.own, self.combined):
            init.xavier_normal_(linear.weight)
        for linear in (self.own, self.combined):
            init.zeros_(linear.bias)

    def forward(self, vectors: Tensor, ids: Tensor, hop: Hop) -> Tensor:
        """Compute x(l) of the outer nodes, (n, D), from x(l-1) of the inner ones (m, D) and e of the outer ones."""
        means = hop.means(self.dropout(vectors))  # W1 of the mean equals the mean of W1, with fewer products
        received = functional.leaky_relu(self.received(means))  # h
        own = functional.leaky_relu(self.own(vectors.index_select(0, hop.own))) + ids  # x-hat
        if self.concat:
            return functional.leaky_relu(self.combined(torch.cat([received, own], 1)))
        return functional.leaky_relu(self.combined(received) + own)
