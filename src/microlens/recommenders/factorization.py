"""Base class of factorization machines over a user's items and one candidate."""

from abc import abstractmethod

import torch
from torch import Tensor

from microlens.recommenders.base import Recommender

NUMBERS_AT_ONCE = 2**22  # maximum elements of the (rows, C, D) arrays when ranking


class FactorizationMachine(Recommender):
    """A recommender whose score is not a dot product: each candidate is combined with the user's items.

    A training example is one training item with all other training items of the user, including later ones, as in the
    original code.

    The second-order interactions of n items v and a candidate c, before the sum over D (bi-interaction pooling, He and
    Chua 2017, equation 4), are ((sum v + c)^2 - sum v^2 - c^2) / 2 = ((sum v)^2 - sum v^2) / 2 + c * sum v. The user
    state is therefore sum v and ((sum v)^2 - sum v^2) / 2, whatever n is.
    """

    examples = "rest"

    @abstractmethod
    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Score states (Q, 1, S) against items (1 or Q, K, D): (Q, K)."""

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """Score states (Q, S) against items (C, D): (Q, C). Without gradients, states are processed in chunks."""
        if torch.is_grad_enabled():
            return self.pairs(users[:, None], items[None])
        rows = max(1, NUMBERS_AT_ONCE // items.numel())
        parts = torch.split(users, rows)
        return torch.cat([self.pairs(part[:, None], items[None]) for part in parts])

    def score_each(self, users: Tensor, items: Tensor) -> Tensor:
        """Score states (Q, S) against each state's own items (Q, K, D): (Q, K)."""
        return self.pairs(users[:, None], items)


def interactions(history: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the vectors (B, L, D) of histories (B, L), and their second-order interactions: (B, D) each."""
    real = torch.where((history > 0)[..., None], vectors, 0.0)  # (B, L, D), zero at padding
    total = real.sum(1)  # (B, D)
    return total, (total.square() - real.square().sum(1)) / 2
