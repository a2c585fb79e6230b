"""The contract of every recommender."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from microlens.data.batches import ItemBatch
from microlens.data.examples import ExampleKind
from microlens.data.split import Split
from microlens.encoders.base import ItemEncoder


class Recommender(nn.Module, ABC):
    """An item tower, a user tower that reads item vectors, and a score.

    A subclass defines ``last_states``; one that is trained on sequences also defines ``encode_users``, because the
    default computes each position by itself. Class attributes state what it is trained on (``examples``), whether it
    knows users by number and cannot score a history alone (``known_users_only``), whether a user's other train items
    are left out of a target's negatives (``rejects_own``), and whether :meth:`fit` learns everything at once, without
    gradients (``fits_at_once``).

    Letters: B users, L history length, D vector size, Q user states of size S, C and M items.
    """

    examples: ExampleKind = "sequences"
    known_users_only: bool = False
    rejects_own: bool = True
    fits_at_once: bool = False

    def __init__(self, item_encoder: ItemEncoder) -> None:
        super().__init__()
        self.item_encoder = item_encoder

    def encode_items(self, items: ItemBatch) -> Tensor:
        """Encode distinct items: (M, D)."""
        vectors: Tensor = self.item_encoder(items)
        return vectors

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The state of each user after each item read.

        Args:
            users: (B,) user numbers.
            history: (B, L) item numbers, oldest first, left-padded with 0.
            vectors: (B, L, D) the vectors of ``history``, zero at padding.

        Returns:
            (B, L, S); what stands at padding has no meaning.
        """
        L = history.shape[1]
        prefixes = [
            self.last_states(
                users,
                functional.pad(history[:, :end], (L - end, 0)),
                functional.pad(vectors[:, :end], (0, 0, L - end, 0)),
            )
            for end in range(1, L + 1)
        ]
        return torch.stack(prefixes, 1)

    @abstractmethod
    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The state of each user after the whole history, what ranking needs: (B, S); arguments as encode_users."""

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """Score user states (Q, S) against item vectors (C, D): (Q, C), higher is better."""
        return users @ items.T

    def score_each(self, users: Tensor, items: Tensor) -> Tensor:
        """Score user states (Q, S) against items of their own, (Q, K, D): (Q, K)."""
        return torch.einsum("qd,qkd->qk", users, items)

    def fit(self, split: Split) -> None:
        """Learn everything at once from the train part of ``split``; called if ``fits_at_once`` is set."""
        raise NotImplementedError(f"{type(self).__name__} sets fits_at_once and does not define fit")

    def adopt(self, state: Mapping[str, Tensor]) -> None:
        """Prepare for loading ``state``: resize buffers whose length :meth:`fit` decides."""

    def fits(self, split: Split) -> bool:
        """Whether the buffers that :meth:`fit` filled have the numbers of users and items of ``split``."""
        return True

    @property
    def dot_product(self) -> bool:
        """Whether the score is the dot product of state and vector."""
        return type(self).score is Recommender.score
