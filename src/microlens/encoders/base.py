"""The base class of item encoders."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from microlens.data.batches import ItemBatch


@dataclass(frozen=True)
class ContentGroup:
    """Parameters that process raw content: trained without weight decay, at ``lr`` or the run's ``encoder_lr``."""

    parameters: list[nn.Parameter]
    lr: float | None = None


class ItemEncoder(nn.Module, ABC):
    """Maps items to vectors, (M,) to (M, D); in eval mode, row i depends on item i only.

    ``needs`` names the kinds of content that the encoder uses (see ``microlens.data.content.KINDS``).
    ``known_items_only`` is true if it also reads item numbers. It cannot encode items outside the catalogue, then,
    unless it overrides ``reads_of_new`` and reads what ``ItemBatch.new`` says of them.
    ``comparable`` is false if the cosine of two vectors is meaningless, because they are numbers or counts.
    """

    needs: frozenset[str] = frozenset()
    known_items_only: bool = False
    comparable: bool = True

    @abstractmethod
    def forward(self, items: ItemBatch) -> Tensor:
        """Encode ``items``: (M, D)."""

    def towers(self) -> Iterator["ItemEncoder"]:
        """Iterate over the encoders that this one consists of: itself, or the parts of a fusion."""
        yield self

    @property
    def reads(self) -> frozenset[str]:
        """The kinds of content that a batch must contain: ``needs``, or the caches that replace them."""
        return self.needs

    @property
    def reads_of_new(self) -> frozenset[str] | None:
        """What the encoder reads of an item outside the catalogue: kinds of content, "title" and "tag".

        None if it cannot encode such items; empty if it gives all of them the vector of an item without interactions.
        """
        return None if self.known_items_only else self.needs

    @property
    def may_lack(self) -> frozenset[str]:
        """The kinds of content that items may lack."""
        return frozenset()

    @property
    def batch_statistics(self) -> bool:
        """True if, in training, an item's vector depends on the other items of its batch (BatchNorm)."""
        return False

    @property
    def sees_content(self) -> bool:
        """True if encoding an item runs a network over its content, so that only a few items are encoded at once."""
        return bool(self.needs)

    def content_groups(self) -> list[ContentGroup]:
        """Parameters that process raw content, trained without weight decay: by default all, if it needs content."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [ContentGroup(trained)] if self.needs and trained else []

    def use_channels_last(self) -> None:
        """Lay out weights for ``train.channels_last``; no-op by default."""

    def compile_trained_part(self) -> None:
        """Prepare for ``train.compile``; no-op by default."""
