"""Content-based nearest neighbours."""

import torch
from torch import Tensor
from torch.nn import functional

from microlens.data.batches import ItemBatch
from microlens.data.feature_matrix import load_features
from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder
from microlens.recommenders.base import Recommender
from microlens.recommenders.fitted import recency_weights


class UnitFeatures(ItemEncoder):
    """Frozen item features scaled to unit length.

    Args:
        features: (N, E) feature matrix.
    """

    known_items_only = True
    features: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.register_buffer("features", functional.normalize(features, dim=1))

    def forward(self, items: ItemBatch) -> Tensor:
        """Look up the unit vectors: (M, E)."""
        return self.features[items.items - 1]


class ContentKNN(Recommender):
    """Ranks items by the cosine between their frozen features and the recency-weighted mean of the history's features.

    Nothing is trained, and items without interactions can be ranked.

    Args:
        item_ids: (N+1,) the id of each item number.
        features: path of a ``.npy`` matrix, see :func:`microlens.data.feature_matrix.load_features`.
        decay: weight of an item relative to the next more recent one, in (0, 1].
    """

    depends_on_seed = False

    def __init__(self, *, item_ids: ItemIds, features: str, decay: float = 0.6) -> None:
        if not 0 < decay <= 1:
            raise ValueError(f"decay = {decay:g}: it must be above 0 and at most 1")
        super().__init__(UnitFeatures(torch.from_numpy(load_features(features, item_ids[1:]))))
        self.decay = decay

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The unit-length weighted mean of the history's vectors: (B, E), zero for an empty history."""
        weights = recency_weights(history, self.decay)  # (B, L)
        real = torch.where((history > 0)[..., None], vectors, 0.0)  # (B, L, E), zero at padding
        return functional.normalize(torch.einsum("bl,ble->be", weights, real), dim=1)
