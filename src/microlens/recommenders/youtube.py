"""YouTube's deep candidate generation network (Covington, Adams and Sargin 2016, doi 10.1145/2959100.2959190)."""

import torch
from torch import Tensor, nn
from torch.nn import init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.base import Recommender
from microlens.recommenders.dropout import Dropout


class YouTube(Recommender):
    """The mean of the history's item vectors through a ReLU tower that halves in width (Covington et al. 2016).

    MicroLens published no code for its YouTube rows, so width and depth follow the paper's smallest tower: 2D, then D.
    The last layer has no ReLU: a user vector without negative components could not score any direction down.

    Args:
        item_encoder: item tower with output size ``dim``.
        dim: D, the size of item vectors and states.
        dropout: dropout rate of the mean and of the hidden layer.
    """

    def __init__(self, *, item_encoder: ItemEncoder, dim: int, dropout: float = 0.1) -> None:
        super().__init__(item_encoder)
        self.dropout = Dropout(dropout)
        self.hidden = nn.Linear(dim, 2 * dim)
        self.output = nn.Linear(2 * dim, dim)
        for linear in (self.hidden, self.output):
            init.xavier_normal_(linear.weight)
            init.zeros_(linear.bias)

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The tower's output for the mean of the items up to each position: (B, L, D)."""
        real = (history > 0)[..., None]  # (B, L, 1)
        return self._tower(torch.where(real, vectors, 0.0).cumsum(1) / real.cumsum(1).clamp(min=1))

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The tower's output for the mean of all items: (B, D)."""
        real = (history > 0)[..., None]
        return self._tower(torch.where(real, vectors, 0.0).sum(1) / real.sum(1).clamp(min=1))

    def _tower(self, pooled: Tensor) -> Tensor:
        states: Tensor = self.output(self.dropout(self.hidden(self.dropout(pooled)).relu()))
        return states
