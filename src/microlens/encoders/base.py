"""The contract of every item tower."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from microlens.data.batches import ItemBatch


@dataclass(frozen=True)
class ContentGroup:
    """Parameters that see raw content: trained without weight decay, at ``lr`` or else the run's encoder rate."""

    parameters: list[nn.Parameter]
    lr: float | None = None


class ItemEncoder(nn.Module, ABC):
    """Maps items to vectors, (M,) to (M, D); row i depends on item i only (in eval mode).

    ``needs`` names the kinds of content it is made for (see ``microlens.data.content.KINDS``); ``known_items_only``
    says that it also reads the item number, so that an item outside the catalogue cannot be encoded.
    """

    needs: frozenset[str] = frozenset()
    known_items_only: bool = False

    @abstractmethod
    def forward(self, items: ItemBatch) -> Tensor:
        """Encode ``items``: (M, D)."""

    def towers(self) -> Iterator["ItemEncoder"]:
        """This tower, or those that it is made of."""
        yield self

    @property
    def reads(self) -> frozenset[str]:
        """The kinds of content that a batch has to hold: ``needs``, or what stands in for it."""
        return self.needs

    @property
    def may_lack(self) -> frozenset[str]:
        """The kinds of content that an item may be without."""
        return frozenset()

    @property
    def batch_statistics(self) -> bool:
        """Whether an item's vector depends, in training, on the items it is encoded with."""
        return False

    @property
    def sees_content(self) -> bool:
        """Whether encoding an item runs a network over its content, so that only a few are encoded at once."""
        return bool(self.needs)

    def content_groups(self) -> list[ContentGroup]:
        """Parameters that see raw content, trained at a rate of their own and without weight decay.

        By default all trained parameters of an encoder that needs content.
        """
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [ContentGroup(trained)] if self.needs and trained else []

    def accelerate(self) -> None:
        """Prepare for ``train.accelerate``: change memory layouts or compile; by default nothing."""
