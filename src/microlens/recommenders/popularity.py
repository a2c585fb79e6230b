"""The popularity baseline."""

import torch
from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.recommenders.base import Recommender


class TrainCounts(ItemEncoder):
    """The number of training interactions as an item vector, D = 1.

    Args:
        train_counts: (N+1,) training interactions of each item number.
    """

    known_items_only = True
    comparable = False
    counts: Tensor

    def __init__(self, train_counts: Tensor) -> None:
        super().__init__()
        self.register_buffer("counts", train_counts.float()[:, None])

    @property
    def reads_of_new(self) -> frozenset[str]:
        """Nothing: an item outside the catalogue has no interactions, as number 0."""
        return frozenset()

    def forward(self, items: ItemBatch) -> Tensor:
        """Look up the counts: (M, 1)."""
        return self.counts[items.items]


class Popularity(Recommender):
    """Ranks items by their number of training interactions; nothing is trained.

    Args:
        train_counts: (N+1,) training interactions of each item number.
    """

    depends_on_seed = False

    def __init__(self, *, train_counts: Tensor) -> None:
        super().__init__(TrainCounts(train_counts))

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The same constant state for every user: ones (B, L, 1)."""
        return torch.ones_like(vectors)

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The same state for every user: ones (B, 1)."""
        return torch.ones_like(vectors[:, -1])
