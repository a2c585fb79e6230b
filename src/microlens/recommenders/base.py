"""The base class of recommenders."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from microlens.data.batches import ItemBatch
from microlens.data.examples import ExampleKind
from microlens.data.new_items import NewItem
from microlens.data.split import Split
from microlens.encoders.base import ItemEncoder


class Recommender(nn.Module, ABC):
    """Base class of recommenders: an item tower, a user tower that reads item vectors, and a score.

    Subclasses define ``last_states``. Models trained on sequences should also define ``encode_users``, because the
    default computes each position separately.

    Letters: B users, L history length, D vector size, Q user states of size S, C and M items.

    Attributes:
        examples: kind of training examples, see :class:`microlens.data.examples.Examples`.
        known_users_only: True if the model identifies users by number and cannot score a history alone.
        rejects_own: True if a user's other training items are excluded from the negatives of a target.
        fits_at_once: True if :meth:`fit` learns everything at once, without gradients.
        revision: raised when the equations of a released model change, so that weights trained with the former ones are
            refused instead of loaded.
        depends_on_seed: False if every seed gives the same scores, so that one run is all there is to know.
        log_probabilities: True if scores are log-probabilities, so that the loss ``train.loss = "likelihood"`` is the
            negative of the target's.
    """

    examples: ExampleKind = "sequences"
    known_users_only: bool = False
    rejects_own: bool = True
    fits_at_once: bool = False
    revision: int = 1
    depends_on_seed: bool = True
    log_probabilities: bool = False

    def __init__(self, item_encoder: ItemEncoder) -> None:
        super().__init__()
        self.item_encoder = item_encoder

    def encode_items(self, items: ItemBatch) -> Tensor:
        """Encode distinct items: (M, D)."""
        vectors: Tensor = self.item_encoder(items)
        return vectors

    @property
    def reads_of_new(self) -> frozenset[str] | None:
        """What the model reads of items outside the catalogue, see :attr:`ItemEncoder.reads_of_new`; None if it cannot
        rank them.
        """
        return self.item_encoder.reads_of_new

    def encode_new(self, items: ItemBatch) -> Tensor:
        """Encode items outside the catalogue, which ``items`` describes: (A, E), to keep; row i depends on item i only.

        By default these are the item vectors, with E = D.
        """
        return self.encode_items(items)

    def with_new(self, items: Sequence[NewItem], encoded: Tensor) -> tuple["Recommender", Tensor]:
        """The model with A items outside the catalogue, numbered after all others, and their item vectors (A, D).

        By default the model is the same, because vectors are all that it knows of items. What is encoded, (A, E), is
        from :meth:`encode_new`, of now or of before.
        """
        return self, encoded

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """Compute the state of each user after each item of the history.

        Args:
            users: (B,) user numbers.
            history: (B, L) item numbers, oldest first, left-padded with 0.
            vectors: (B, L, D) vectors of ``history``, zero at padding.

        Returns:
            (B, L, S); values at padding are undefined.
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
        """Compute the state of each user after the whole history: (B, S); arguments as in :meth:`encode_users`."""

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """Score user states (Q, S) against item vectors (C, D): (Q, C), higher is better."""
        return users @ items.T

    def score_each(self, users: Tensor, items: Tensor) -> Tensor:
        """Score each user state (Q, S) against its own K items (Q, K, D): (Q, K)."""
        return torch.einsum("qd,qkd->qk", users, items)

    def penalty(self, users: Tensor, items: Tensor) -> Tensor:
        """The regularization of a training step, which is added to its loss: a scalar, 0 by default.

        Args:
            users: (B,) the users of the batch.
            items: (M,) the distinct items of the batch, sampled negatives included.
        """
        return torch.zeros((), device=users.device)

    def side_vectors(self, items: Tensor) -> list[tuple[float, Tensor]]:
        """Further vectors (M, D) of ``items`` (M,), given by number, each with a weight; none by default.

        For each, ``train.loss`` is computed a second time, with these in place of the item vectors, and added with its
        weight.
        """
        return []

    def own_loss(self, users: Tensor, items: Tensor) -> Tensor:
        """The loss of ``train.loss = "own"``, summed over the pairs of users (Q,) and items (Q,), given by number."""
        raise NotImplementedError(f"{type(self).__name__} does not define own_loss")

    @property
    def defines_loss(self) -> bool:
        """True if the model defines :meth:`own_loss`."""
        return type(self).own_loss is not Recommender.own_loss

    def fit(self, split: Split) -> None:
        """Learn everything at once from the train part of ``split``; called if ``fits_at_once``."""
        raise NotImplementedError(f"{type(self).__name__} sets fits_at_once but does not define fit")

    def adopt(self, state: Mapping[str, Tensor]) -> None:
        """Resize buffers whose length is determined by :meth:`fit`, before ``state`` is loaded."""

    def fits(self, split: Split) -> bool:
        """True if the sizes of the buffers filled by :meth:`fit` match the numbers of users and items of ``split``."""
        return True

    @property
    def dot_product(self) -> bool:
        """True if the score is the dot product of state and vector."""
        return type(self).score is Recommender.score
