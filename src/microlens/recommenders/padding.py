"""What a model that reads from left to right finds before a user's first item."""

from typing import Literal

import torch
from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.recommenders.base import Recommender

Padding = Literal["masked", "reference"]


class LeftToRight(Recommender):
    """A recommender without attention mask, for which padding could be an item that was read before all others.

    Args:
        item_encoder: item tower.
        padding: with ``masked``, a history starts at its first item. With ``reference``, as in the MicroLens code, it
            starts with as many blank items as there is padding, and a blank item is the vector of item 0: the row of
            the id table that nothing trains. Kept for comparison with the original.

    Raises:
        ValueError: ``reference`` with a tower that reads content, of which item 0 has none.
    """

    def __init__(self, item_encoder: ItemEncoder, padding: Padding) -> None:
        super().__init__(item_encoder)
        if padding == "reference" and item_encoder.needs:
            raise ValueError("padding = 'reference' works with id encoders; accepted with this one: 'masked'")
        self.padding = padding

    def what_is_read(self, history: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Which positions are read and the vectors that stand there: (B, L) and (B, L, D); arguments as encode_users.

        What is read of a history is always the end of it.
        """
        real = history > 0
        if self.padding == "masked":
            return real, vectors
        blank = self.encode_items(ItemBatch(items=history.new_zeros(1))).detach()  # (1, D)
        return torch.ones_like(real), torch.where(real[..., None], vectors, blank.to(vectors.dtype))
