"""NFM, the neural factorization machine (He and Chua 2017, arXiv 1708.05027)."""

import torch
from torch import Tensor, nn
from torch.nn import init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.factorization import FactorizationMachine, interactions


class NFM(FactorizationMachine):
    """Bi-interaction pooling of user's items and candidate, BatchNorm and one hidden layer (He and Chua 2017).

    There are no first-order terms and no user ids, as in the original code.

    Args:
        item_encoder: item tower with output size ``dim``.
        dim: D, the size of item vectors.
        final_relu: apply a ReLU to the output, as the original code does. Scores are then never negative, and all of
            them can become zero for good.
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
        """The sum of the history's vectors and their interactions: (B, 2D)."""
        return torch.cat(interactions(history, vectors), 1)

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """The network's output for the interactions of a user's items and a candidate: (Q, K)."""
        total, among = users.chunk(2, dim=2)  # (Q, 1, D) each
        pooled = torch.addcmul(among, total, items)  # (Q, K, D)
        normed = self.norm(pooled.flatten(0, 1)).view_as(pooled)  # BatchNorm over all Q*K pairs
        scores: Tensor = self.output(self.hidden(normed).relu()).squeeze(2)
        return scores.relu() if self.final_relu else scores
