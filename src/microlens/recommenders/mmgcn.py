"""MMGCN (Wei et al. 2019, "MMGCN: Multi-modal graph convolution network"): one graph per modality, linked by ids."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder
from microlens.recommenders.graph import Adjacency, GraphRecommender
from microlens.recommenders.modalities import Modality, id_vectors, modalities_of


class MMGCN(GraphRecommender):
    """Graph convolution of users and items in each modality, summed over modalities (Wei et al. 2019).

    In modality m a node starts at x(0), a learned vector for users and the projected features for items. With e its id
    vector, which all modalities share, layer l computes

        h     = LeakyReLU(mean over neighbours of W1 x(l-1))      (aggregation)
        x-hat = LeakyReLU(W2 x(l-1)) + e
        x(l)  = LeakyReLU(W3 h + x-hat)                           (combination, element-wise)

    with separate matrices for each modality and layer. The final vector is the sum of x(L) over modalities. Without
    features there is a single graph over ids, x(0) = e.

    In the implementation behind the MicroLens table, id and user vectors are not parameters and keep their initial
    values; here they are trained.

    Args:
        item_encoder: tower of e for items, with output size ``dim``.
        dim: D.
        num_users: U.
        num_items: N.
        item_ids: (N+1,) the id of each item number.
        train_pairs: (T,) user numbers and (T,) item numbers of the training interactions.
        features: one ``.npy`` file for each modality; see :func:`microlens.data.feature_matrix.load_features`.
        layers: L, the number of convolutions, at least 1.
        dropout: dropout rate of the messages to neighbours.
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
        features: str | list[str] | None = None,
        layers: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(item_encoder, num_users, num_items)
        if layers < 1:
            raise ValueError(f"layers = {layers}: at least 1 is needed")
        self.adjacency = Adjacency(train_pairs, num_users, num_items)
        self.user_table = nn.Parameter(init.xavier_normal_(Tensor(num_users, dim)))
        self.modalities = nn.ModuleList(modalities_of(features, item_ids, dim, num_users))
        graphs = max(1, len(self.modalities))
        self.layers = layers
        self.convolutions = nn.ModuleList(Convolution(dim, dropout) for _ in range(graphs * layers))

    def node_vectors(self, nodes: Tensor) -> Tensor:
        """The sum over modalities of the last layer's rows of ``nodes`` (n,): (n, D)."""
        ids = id_vectors(self.user_table, self.item_encoder, self.num_items)
        starts = [_initial_vectors(modality) for modality in self.modalities] or [ids]
        lasts = []
        for modality, vectors in enumerate(starts):
            for convolution in self.convolutions[modality * self.layers : (modality + 1) * self.layers]:
                vectors = convolution(vectors, ids, self.adjacency)
            lasts.append(vectors)
        return functional.embedding(nodes, torch.stack(lasts).sum(0))


def _initial_vectors(modality: nn.Module) -> Tensor:
    """x(0) of all nodes: (U + N, D)."""
    assert isinstance(modality, Modality)
    return torch.cat([modality.user_table, modality.items()])


class Convolution(nn.Module):
    """One MMGCN layer of one modality.

    Args:
        dim: D, the size of vectors.
        dropout: dropout rate of the messages.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.received, self.own, self.combined = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        for linear in (self.received, self.own, self.combined):
            init.xavier_normal_(linear.weight)

    def forward(self, vectors: Tensor, ids: Tensor, adjacency: Adjacency) -> Tensor:
        """Compute x(l) from x(l-1) and e, for all nodes: all (U + N, D)."""
        means = functional.embedding_bag(
            adjacency.neighbours, self.dropout(vectors), adjacency.offsets[:-1], mode="mean"
        )  # W1 of the mean equals the mean of W1, with fewer products
        received = functional.leaky_relu(self.received(means))  # h
        own = functional.leaky_relu(self.own(vectors)) + ids  # x-hat
        return functional.leaky_relu(self.combined(received) + own)
