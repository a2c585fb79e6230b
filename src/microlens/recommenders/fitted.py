"""Recommenders that are fitted in closed form or by counting, without gradients."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.data.split import Split
from microlens.encoders.base import ItemEncoder
from microlens.errors import InputError
from microlens.recommenders.base import Recommender
from microlens.recommenders.counting import SparseRows

LARGEST_EXACT = 2**24
"""Whole numbers up to it are exact in float32."""


class ItemNumbers(ItemEncoder):
    """Uses the item number as the item vector, with D = 1; items outside the catalogue have number 0."""

    known_items_only = True
    comparable = False

    @property
    def reads_of_new(self) -> frozenset[str]:
        """Nothing: number 0 is an item without interactions."""
        return frozenset()

    def forward(self, items: ItemBatch) -> Tensor:
        """Return the item numbers as vectors: (M, 1)."""
        return items.items[:, None].float()


class ByItemNumber(Recommender):
    """Base class of recommenders whose item vectors are item numbers and whose states are histories.

    Number 0, padding, scores as an item without interactions and says nothing in a history.
    """

    def __init__(self) -> None:
        super().__init__(ItemNumbers())

    @abstractmethod
    def scores(self, states: Tensor) -> Tensor:
        """Score all items for states (Q, L) of item numbers: (Q, N+1), where column 0 is padding."""

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """Return the history as the state, (B, L): the numbers that are its vectors (B, L, 1)."""
        return numbers_read(history, vectors)

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """Score states (Q, L) against the items with numbers ``items`` (C, 1): (Q, C)."""
        return self.scores(users.long()).index_select(1, items[:, 0].long())

    def score_each(self, users: Tensor, items: Tensor) -> Tensor:
        """Score each state (Q, L) against its own K items, with numbers ``items`` (Q, K, 1): (Q, K)."""
        return self.scores(users.long()).gather(1, items[..., 0].long())


class Fitted(ByItemNumber):
    """Base class of recommenders without gradients: :meth:`fit` learns everything at once and stores it in buffers.

    With ``known_users_only``, the state is the user number instead of the history.

    ``sizes`` maps the names of buffers to the sizes of their first axes: "items" (number of items plus padding) or
    "users".

    Additional letter: N items.
    """

    fits_at_once = True
    sizes: ClassVar[Mapping[str, tuple[Literal["items", "users"], ...]]] = {}

    @abstractmethod
    def fit(self, split: Split) -> None:
        """Learn from the train part of ``split``; random numbers depend on PyTorch's seed."""

    def adopt(self, state: Mapping[str, Tensor]) -> None:
        """Replace buffers by the tensors of ``state`` if only the sizes determined by fitting differ."""
        for name, buffer in list(self.named_buffers()):
            if name in state and state[name].dtype == buffer.dtype and _extends(state[name], buffer):
                owner, _, own_name = name.rpartition(".")
                setattr(self.get_submodule(owner), own_name, state[name].to(buffer.device))

    def fits(self, split: Split) -> bool:
        """True if the buffers match the numbers of users and items of ``split``."""
        lengths = {"items": split.num_items + 1, "users": split.num_users}
        return all(
            self.get_buffer(name).shape[: len(axes)] == tuple(lengths[axis] for axis in axes)
            for name, axes in self.sizes.items()
        ) and all(rows.fits(split.num_items) for rows in self.modules() if isinstance(rows, SparseRows))


def _extends(tensor: Tensor, buffer: Tensor) -> bool:
    """True if ``tensor`` has the shape of ``buffer``, except for axes of size 0."""
    return tensor.ndim == buffer.ndim and all(
        old in (0, new) for new, old in zip(tensor.shape, buffer.shape, strict=True)
    )


def numbers_read(history: Tensor, vectors: Tensor) -> Tensor:
    """The numbers that are the vectors (B, L, 1) of histories (B, L), as float: (B, L), 0 at padding."""
    return vectors[..., 0].where(history > 0, 0.0)


def check_user_numbers(split: Split, name: str) -> None:
    """Check that the number of every user of ``split`` is exact in float32, of which states are.

    Raises:
        InputError: there are too many users; names the model.
    """
    if split.num_users > LARGEST_EXACT:
        raise InputError(
            f"model.name is '{name}', which tells up to {LARGEST_EXACT:,} users apart; there are {split.num_users:,}."
        )


def recency_weights(history: Tensor, decay: float) -> Tensor:
    """``decay`` to the power of an item's age (0 for the last item): (Q, L), zero at padding of ``history`` (Q, L)."""
    ages = torch.arange(history.shape[1] - 1, -1, -1, device=history.device)
    return torch.where(history > 0, decay**ages, 0.0)
