"""Base class of sequential models that read from left to right, and their treatment of padding."""

from typing import Literal

import torch
from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.recommenders.base import Recommender

Padding = Literal["masked", "reference"]


class LeftToRight(Recommender):
    """A sequential recommender without attention mask, where padding could act as items before the first one.

    Args:
        item_encoder: item tower.
        padding: with ``masked``, a history starts at its first item. With ``reference``, as in the MicroLens code,
            padding positions are read as blank items: the vector of item 0, the untrained row of the id table. Kept for
            comparison with the original.

    Raises:
        ValueError: ``reference`` is combined with a tower that reads content, because item 0 has none.
    """

    def __init__(self, item_encoder: ItemEncoder, padding: Padding) -> None:
        super().__init__(item_encoder)
        if padding == "reference" and item_encoder.needs:
            raise ValueError("padding = 'reference' works with id encoders; accepted with this one: 'masked'")
        self.padding = padding

    def mask_and_vectors(self, history: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The mask of positions that are read, (B, L), and their vectors, (B, L, D).

        Arguments as :meth:`encode_users`. The positions that are read are always at the end of the history.
        """
        real = history > 0
        if self.padding == "masked":
            return real, vectors
        blank = self.encode_items(ItemBatch(items=history.new_zeros(1))).detach()  # (1, D)
        return torch.ones_like(real), torch.where(real[..., None], vectors, blank.to(vectors.dtype))
