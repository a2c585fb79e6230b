"""The contract of every recommender."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder


class Recommender(nn.Module, ABC):
    """An item tower, a user tower that reads item vectors, and a score.

    Letters: B users, L history length, D vector size, Q user states, C and M items.
    """

    def __init__(self, item_encoder: ItemEncoder) -> None:
        super().__init__()
        self.item_encoder = item_encoder

    def encode_items(self, items: ItemBatch) -> Tensor:
        """Encode distinct items: (M, D)."""
        vectors: Tensor = self.item_encoder(items)
        return vectors

    @abstractmethod
    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The state of each user after each item read.

        Args:
            users: (B,) user numbers.
            history: (B, L) item numbers, oldest first, left-padded with 0.
            vectors: (B, L, D) the vectors of ``history``, zero at padding.

        Returns:
            (B, L, D); what stands at padding has no meaning.
        """

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The state of each user after the whole history, what ranking needs: (B, D); arguments as encode_users."""
        return self.encode_users(users, history, vectors)[:, -1]

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """Score user states (Q, D) against item vectors (C, D): (Q, C), higher is better."""
        return users @ items.T
