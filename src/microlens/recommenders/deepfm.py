"""DeepFM (Guo et al. 2017, arXiv 1703.04247)."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.factorization import FactorizationMachine, interactions


class DeepFM(FactorizationMachine):
    """Second-order interactions of the user's items and the candidate, plus a network over all their vectors.

    The network is one hidden layer over the L + 1 vectors side by side, empty positions being zero. It is linear before
    its ReLU, so what the history adds is computed once a user and what a candidate adds once an item.

    Args:
        item_encoder: item tower of size ``dim``.
        dim: D.
        history_length: L.
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
        """The sum of the vectors, what the network makes of them, and their interactions: (B, 2D + 1)."""
        total, among = interactions(history, vectors)
        real = torch.where((history > 0)[..., None], vectors, 0.0)
        positions = functional.pad(real, (0, 0, self.history_length - real.shape[1], 0)).flatten(1)
        weight = self.hidden.weight[:, : positions.shape[1]]
        return torch.cat([total, functional.linear(positions, weight, self.hidden.bias), among.sum(1, keepdim=True)], 1)

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Interactions plus the network's output."""
        D = items.shape[2]
        total, deep, among = users[..., :D], users[..., D:-1], users[..., -1]
        of_item = functional.linear(items, self.hidden.weight[:, -D:])
        network: Tensor = self.output((deep + of_item).relu()).squeeze(2)
        scores: Tensor = network + among + (total @ items.transpose(1, 2)).squeeze(1)
        return scores
