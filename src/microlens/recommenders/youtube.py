"""The deep candidate generator of YouTube (Covington, Adams and Sargin 2016, doi 10.1145/2959100.2959190)."""

import torch
from torch import Tensor, nn
from torch.nn import init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.base import Recommender


class YouTube(Recommender):
    """The mean of the vectors of what was watched, through a network of ReLU layers each half as wide as the last.

    MicroLens published no code of its YouTube rows, so width and depth are the paper's tower at its smallest: 2D, then
    D. The last layer has no ReLU, because a user vector without negative numbers could only like some directions.

    Args:
        item_encoder: item tower of size ``dim``.
        dim: D.
        dropout: on the mean and on the hidden layer.
    """

    def __init__(self, *, item_encoder: ItemEncoder, dim: int, dropout: float = 0.1) -> None:
        super().__init__(item_encoder)
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(dim, 2 * dim)
        self.output = nn.Linear(2 * dim, dim)
        for linear in (self.hidden, self.output):
            init.xavier_normal_(linear.weight)
            init.zeros_(linear.bias)

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """From the mean of the items up to each position: (B, L, D)."""
        real = (history > 0)[..., None]
        return self._tower(torch.where(real, vectors, 0.0).cumsum(1) / real.cumsum(1).clamp(min=1))

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """From the mean of all items: (B, D)."""
        real = (history > 0)[..., None]
        return self._tower(torch.where(real, vectors, 0.0).sum(1) / real.sum(1).clamp(min=1))

    def _tower(self, pooled: Tensor) -> Tensor:
        states: Tensor = self.output(self.dropout(self.hidden(self.dropout(pooled)).relu()))
        return states
