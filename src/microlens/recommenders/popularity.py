"""The most popular items for everyone: the row every other model has to beat."""

import torch
from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.recommenders.base import Recommender


class TrainCounts(ItemEncoder):
    """An item's vector is its number of train interactions, D = 1.

    Args:
        train_counts: (N+1,).
    """

    known_items_only = True
    counts: Tensor

    def __init__(self, train_counts: Tensor) -> None:
        super().__init__()
        self.register_buffer("counts", train_counts.float()[:, None])

    def forward(self, items: ItemBatch) -> Tensor:
        """Look the counts up: (M, 1)."""
        return self.counts[items.items]


class Popularity(Recommender):
    """Ranks items by their number of train interactions; has nothing to train.

    Args:
        train_counts: (N+1,).
    """

    def __init__(self, *, train_counts: Tensor) -> None:
        super().__init__(TrainCounts(train_counts))

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The same state for every user: ones (B, L, 1)."""
        return torch.ones_like(vectors)

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The same state for every user: ones (B, 1)."""
        return torch.ones_like(vectors[:, -1])
