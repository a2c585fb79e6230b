"""A learned mixture of the layers of a frozen encoder."""

import torch
from torch import Tensor, nn
from torch.nn import init

from microlens.data.batches import ItemBatch
from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder
from microlens.encoders.frozen_sequences import FrozenSequences


class LayerMixEncoder(ItemEncoder):
    r"""A weighted sum of the layers of a frozen encoder with learned weights, and a linear projection.

    With :math:`h_j` the output of layer j, an item's features are

    .. math:: \gamma \sum_{j=1}^T \mathrm{softmax}(w)_j h_j,

    as of ELMo (Peters et al. 2018, arXiv 1802.05365, eq. 1). It begins with the mean of the layers. If an item lacks a
    vector, the softmax is over the others.

    Args:
        path: a file of T vectors per item, which ``microlens features DATASET --encoder NAME --layers all`` writes.
        dim: D, the size of item vectors.
        item_ids: (N+1,) the id of each item number.
    """

    known_items_only = True

    def __init__(self, *, path: str, dim: int, item_ids: ItemIds) -> None:
        super().__init__()
        self.layers = FrozenSequences(path, item_ids)
        self.weights = nn.Parameter(torch.zeros(self.layers.num_vectors))
        self.scale = nn.Parameter(torch.ones(()))
        self.projection = nn.Linear(self.layers.feature_dim, dim)
        init.xavier_normal_(self.projection.weight)
        init.zeros_(self.projection.bias)

    def forward(self, items: ItemBatch) -> Tensor:
        """Mix and project the layers of the items: (M, D)."""
        vectors, present = self.layers.of(items.items)  # (M, T, E), (M, T)
        weights = self.weights.expand_as(present).masked_fill(~present, -torch.inf).softmax(1)  # (M, T)
        mixed = torch.bmm(weights[:, None], vectors)[:, 0]  # (M, E)
        projected: Tensor = self.projection(self.scale * mixed)
        return projected
