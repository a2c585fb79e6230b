"""NFM, the neural factorization machine (He and Chua 2017, arXiv 1708.05027)."""

import torch
from torch import Tensor, nn
from torch.nn import init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.factorization import FactorizationMachine, interactions


class NFM(FactorizationMachine):
    """Bi-interaction pooling of the user's items and the candidate, batch normalisation, and one hidden layer.

    As in the original code there are neither first-order terms nor user ids.

    Args:
        item_encoder: item tower of size ``dim``.
        dim: D.
        final_relu: end in a ReLU, as the original code does: scores are then never below zero and can all die.
    """

    def __init__(self, *, item_encoder: ItemEncoder, dim: int, final_relu: bool = False) -> None:
        super().__init__(item_encoder)
        self.norm = nn.BatchNorm1d(dim)
        self.hidden = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, 1)
        self.final_relu = final_relu
        for linear in (self.hidden, self.output):
            init.xavier_normal_(linear.weight)
            init.zeros_(linear.bias)

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The sum of the history's vectors, and their interactions: (B, 2D)."""
        return torch.cat(interactions(history, vectors), 1)

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """The network over the interactions of a user's items and a candidate."""
        total, among = users.chunk(2, dim=2)
        pooled = torch.addcmul(among, total, items)  # (Q, K, D)
        normed = self.norm(pooled.flatten(0, 1)).view_as(pooled)
        scores: Tensor = self.output(self.hidden(normed).relu()).squeeze(2)
        return scores.relu() if self.final_relu else scores
