"""DeepFM (Guo et al. 2017, arXiv 1703.04247)."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.factorization import FactorizationMachine, in_tiles, interactions


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

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """Second-order interactions plus the output of the network: (Q, C)."""
        D = items.shape[1]
        total, deep, among = users[:, :D], users[:, D:-1], users[:, -1:]  # (Q, D), (Q, D), (Q, 1)

        def network(deep: Tensor, of_item: Tensor) -> Tensor:
            return (deep[:, None] + of_item).relu_() @ self.output.weight[0]  # (q, c)

        return in_tiles(network, [deep], self._of_item(items)) + self.output.bias + among + total @ items.T

    def score_each(self, users: Tensor, items: Tensor) -> Tensor:
        """Second-order interactions plus the output of the network: (Q, K)."""
        D = items.shape[2]
        total, deep, among = users[:, :D], users[:, None, D:-1], users[:, -1:]  # (Q, D), (Q, 1, D), (Q, 1)
        network: Tensor = self.output((deep + self._of_item(items)).relu()).squeeze(2)  # (Q, K)
        return network + among + (items @ total[..., None]).squeeze(2)

    def _of_item(self, items: Tensor) -> Tensor:
        """The candidate's part of the hidden layer, from item vectors (..., D): (..., D)."""
        return functional.linear(items, self.hidden.weight[:, -items.shape[-1] :])
