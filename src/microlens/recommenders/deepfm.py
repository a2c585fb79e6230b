"""DeepFM (Guo et al. 2017, arXiv 1703.04247)."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.factorization import FactorizationMachine, interactions


class DeepFM(FactorizationMachine):
    """A factorization machine over user's items and candidate, plus a network over their vectors (Guo et al. 2017).

    The network has one hidden layer over the L + 1 concatenated vectors; padding is zero. The layer is linear before
    its ReLU, so the history's part is computed once per user and the candidate's part once per item.

    Args:
        item_encoder: item tower with output size ``dim``.
        dim: D, the size of item vectors.
        history_length: L, the maximum history length.
    """

    def __init__(self, *, item_encoder: ItemEncoder, dim: int, history_length: int) -> None:
        super().__init__(item_encoder)
        self.history_length = history_length
        self.hidden = nn.Linear((history_length + 1) * dim, dim)
        self.output = nn.Linear(dim, 1)
        for linear in (self.hidden, self.output):
            init.xavier_normal_(linear.weight)
            init.zeros_(linear.bias)

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The sum of the vectors, the history's part of the hidden layer and the interactions: (B, 2D + 1)."""
        total, among = interactions(history, vectors)  # (B, D) each
        real = torch.where((history > 0)[..., None], vectors, 0.0)
        positions = functional.pad(real, (0, 0, self.history_length - real.shape[1], 0)).flatten(1)  # (B, L*D)
        weight = self.hidden.weight[:, : positions.shape[1]]  # (D, L*D)
        return torch.cat([total, functional.linear(positions, weight, self.hidden.bias), among.sum(1, keepdim=True)], 1)

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Second-order interactions plus the output of the network: (Q, K)."""
        D = items.shape[2]
        total, deep, among = users[..., :D], users[..., D:-1], users[..., -1]  # (Q, 1, D), (Q, 1, D), (Q, 1)
        of_item = functional.linear(items, self.hidden.weight[:, -D:])  # (1 or Q, K, D)
        network: Tensor = self.output((deep + of_item).relu()).squeeze(2)  # (Q, K)
        scores: Tensor = network + among + (total @ items.transpose(1, 2)).squeeze(1)
        return scores
