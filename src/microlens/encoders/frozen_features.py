"""Frozen feature vectors with a learned projection."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.data.feature_matrix import load_features
from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder


class FeaturesEncoder(ItemEncoder):
    """A linear projection of frozen features, which are extracted once and not trained.

    Args:
        path: path of a ``.npy`` matrix, see :func:`microlens.data.feature_matrix.load_features`.
        dim: D, the size of item vectors.
        item_ids: (N+1,) the id of each item number.
        item_ids: (N+1,) the id of each item number.
    """

    known_items_only = True
    features: Tensor

    def __init__(self, *, path: str, dim: int, item_ids: ItemIds) -> None:
        super().__init__()
        matrix = load_features(path, item_ids[1:])
        self.register_buffer("features", torch.from_numpy(matrix), persistent=False)
        self.projection = nn.Linear(matrix.shape[1], dim)
        init.xavier_normal_(self.projection.weight)
        init.zeros_(self.projection.bias)

    def forward(self, items: ItemBatch) -> Tensor:
        """Project the items' features: (M, D)."""
        return functional.linear(self.features[items.items - 1], self.projection.weight, self.projection.bias)
