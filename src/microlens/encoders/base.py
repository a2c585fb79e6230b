"""The contract of every item tower."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from microlens.data.batches import ItemBatch


class ItemEncoder(nn.Module, ABC):
    """Maps items to vectors, (M,) to (M, D); row i depends on item i only (in eval mode).

    ``needs`` names the kinds of content it reads (see ``microlens.data.content.KINDS``); ``known_items_only`` says that
    it also reads the item number, so that an item outside the catalogue cannot be encoded.
    """

    needs: frozenset[str] = frozenset()
    known_items_only: bool = False

    @abstractmethod
    def forward(self, items: ItemBatch) -> Tensor:
        """Encode ``items``: (M, D)."""

    def content_parameters(self) -> list[nn.Parameter]:
        """Parameters that see raw content; the paper trains them at their own rate and without weight decay."""
        return []
