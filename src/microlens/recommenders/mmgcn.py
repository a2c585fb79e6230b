"""MMGCN (Wei et al. 2019, "MMGCN: Multi-modal graph convolution network"): a graph a modality, linked by ids."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder
from microlens.recommenders.graph import Adjacency, GraphRecommender
from microlens.recommenders.modalities import Modality, id_vectors, modalities_of


class MMGCN(GraphRecommender):
    """Users and items convolved over the graph of the train part once a modality, then added up.

    In modality m a node starts at x(0), a learned vector for users and the projected features for items. With e its id
    vector, which all modalities share, layer l makes of it

        h     = LeakyReLU(mean over neighbours of W1 x(l-1))      (aggregation)
        x-hat = LeakyReLU(W2 x(l-1)) + e
        x(l)  = LeakyReLU(W3 h + x-hat)                           (combination, element-wise)

    with matrices of its own for each modality and layer, and the final vector is the sum of x(L) over modalities.
    Without features there is one graph over ids alone, x(0) = e.

    In the implementation behind the MicroLens table, ids and users' vectors are not parameters, so that they stay as
    they were drawn; here they are trained.

    Args:
        item_encoder: tower of e for items, of size ``dim``.
        dim: D.
        num_users: U.
        num_items: N.
        train_pairs: user numbers (T,) and item numbers (T,) of the train part.
        item_ids: (N+1,) the id of each item number.
        features: a ``.npy`` matrix, see :func:`microlens.data.feature_matrix.load_features`, or one a modality.
        layers: L, at least 1.
        dropout: share of the numbers in messages to neighbours that is zeroed in training.
    """

    def __init__(
        self,
        *,
        item_encoder: ItemEncoder,
        dim: int,
        num_users: int,
        num_items: int,
        train_pairs: tuple[Tensor, Tensor],
        item_ids: ItemIds,
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
        """The sum over modalities of the last layers' rows of ``nodes`` (n,): (n, D)."""
        ids = id_vectors(self.user_table, self.item_encoder, self.num_items)
        starts = [_start(modality) for modality in self.modalities] or [ids]
        lasts = []
        for modality, vectors in enumerate(starts):
            for convolution in self.convolutions[modality * self.layers : (modality + 1) * self.layers]:
                vectors = convolution(vectors, ids, self.adjacency)
            lasts.append(vectors)
        return functional.embedding(nodes, torch.stack(lasts).sum(0))


def _start(modality: nn.Module) -> Tensor:
    assert isinstance(modality, Modality)
    return torch.cat([modality.user_table, modality.items()])


class Convolution(nn.Module):
    """One layer of one modality.

    Args:
        dim: D.
        dropout: share of the numbers in messages that is zeroed in training.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.received, self.own, self.combined = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        for linear in (self.received, self.own, self.combined):
            init.xavier_normal_(linear.weight)

    def forward(self, vectors: Tensor, ids: Tensor, adjacency: Adjacency) -> Tensor:
        """From x(l-1) and e of all nodes, both (U + N, D), to x(l), (U + N, D)."""
        means = functional.embedding_bag(
            adjacency.neighbours, self.dropout(vectors), adjacency.offsets[:-1], mode="mean"
        )  # W1 of the mean is the mean of W1, with fewer products
        received = functional.leaky_relu(self.received(means))
        own = functional.leaky_relu(self.own(vectors)) + ids
        return functional.leaky_relu(self.combined(received) + own)
