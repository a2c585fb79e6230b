"""Base class of factorization machines over a user's items and one candidate."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from microlens.recommenders.base import Recommender

ITEMS_IN_TILE = 1024
# Maximum elements of the hidden layer of one tile: what a processor's cache holds, or a part of a GPU's memory.
NUMBERS_IN_TILE = {"cpu": 2**18, "cuda": 2**26}


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
    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """Score states (Q, S) against items (C, D): (Q, C)."""

    @abstractmethod
    def score_each(self, users: Tensor, items: Tensor) -> Tensor:
        """Score states (Q, S) against each state's own items (Q, K, D): (Q, K)."""


def interactions(history: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the vectors (B, L, D) of histories (B, L), and their second-order interactions: (B, D) each."""
    real = torch.where((history > 0)[..., None], vectors, 0.0)  # (B, L, D), zero at padding
    total = real.sum(1)  # (B, D)
    return total, (total.square() - real.square().sum(1)) / 2


def in_tiles(network: Callable[..., Tensor], users: Sequence[Tensor], items: Tensor) -> Tensor:
    """The outputs (Q, C) of a network over all pairs of users and items, computed for a few of both at a time.

    The hidden layer of all pairs at once, (Q, C, D), would be written to memory and read back by every operation.

    Args:
        network: maps a part (q, D) of each of ``users`` and a part (c, D) of ``items`` to outputs (q, c).
        users: tensors (Q, D).
        items: (C, D).
    """
    rows = min(len(items), ITEMS_IN_TILE)
    kind = "cpu" if items.device.type == "cpu" else "cuda"
    size = max(1, NUMBERS_IN_TILE[kind] // max(1, rows * items.shape[1]))
    parts = torch.split(items, max(1, rows))
    return torch.cat(
        [
            torch.cat([network(*of_users, part) for part in parts], 1)
            for of_users in zip(*(torch.split(tensor, size) for tensor in users), strict=True)
        ]
    )
