"""What factorization machines over a user's items and one candidate share."""

from abc import abstractmethod

import torch
from torch import Tensor

from microlens.recommenders.base import Recommender

NUMBERS_AT_ONCE = 2**22  # of the arrays of a candidate's D numbers for each of Q users, when ranking


class FactorizationMachine(Recommender):
    """A score that is no dot product: every candidate goes through the model together with the user's items.

    An example is a train item among the user's other train items, later ones too, as in the original code.

    The second-order interactions of n items v and a candidate c, before they are summed over D (bi-interaction pooling,
    He and Chua 2017, equation 4), are ((sum v + c)^2 - sum v^2 - c^2) / 2 = ((sum v)^2 - sum v^2) / 2 + c * sum v.
    A user is therefore known by sum v and ((sum v)^2 - sum v^2) / 2, whatever n is.
    """

    examples = "rest"

    @abstractmethod
    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Score states (Q, 1, S) with items (1 or Q, K, D): (Q, K)."""

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """Score every state (Q, S) with every item (C, D): (Q, C); in parts where no gradient is wanted."""
        if torch.is_grad_enabled():
            return self.pairs(users[:, None], items[None])
        rows = max(1, NUMBERS_AT_ONCE // items.numel())
        parts = torch.split(users, rows)
        return torch.cat([self.pairs(part[:, None], items[None]) for part in parts])

    def score_each(self, users: Tensor, items: Tensor) -> Tensor:
        """Score states (Q, S) with items of their own (Q, K, D): (Q, K)."""
        return self.pairs(users[:, None], items)


def interactions(history: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the vectors (B, L, D) of a history (B, L), and their interactions among themselves: (B, D) each."""
    real = torch.where((history > 0)[..., None], vectors, 0.0)
    total = real.sum(1)
    return total, (total.square() - real.square().sum(1)) / 2
