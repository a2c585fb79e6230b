"""Learned tag embeddings."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.errors import InputError


class TagEncoder(ItemEncoder):
    """One learned vector per tag, initialized Xavier-normal: the paper's side feature "Tag" (Table 5).

    A tag is a category and is compared as a whole string; items without tag share one vector. So do items outside the
    catalogue whose tag no item of it has.

    Args:
        tags: N tags in the order of item numbers, "" for none.
        dim: D, the size of item vectors.

    Raises:
        InputError: no item has a tag.
    """

    known_items_only = True
    tag_of_item: Tensor

    def __init__(self, *, tags: Sequence[str], dim: int) -> None:
        super().__init__()
        names = sorted({tag for tag in tags if tag})
        if not names:
            raise InputError("encoder tag: no item of the dataset has a tag; prepare a release with a tags file.")
        self.numbers = {name: index for index, name in enumerate(names, 1)} | {"": 0}
        positions = torch.tensor([0, *(self.numbers[tag] for tag in tags)])
        self.register_buffer("tag_of_item", positions, persistent=False)
        self.table = nn.Parameter(init.xavier_normal_(Tensor(len(names) + 1, dim)))

    @property
    def reads_of_new(self) -> frozenset[str]:
        """The tag."""
        return frozenset({"tag"})

    def forward(self, items: ItemBatch) -> Tensor:
        """Look up the vectors of the items' tags: (M, D)."""
        positions = self.tag_of_item[items.items]
        if items.new is not None:
            positions = torch.tensor([self.numbers.get(item.tag, 0) for item in items.new], device=positions.device)
        return functional.embedding(positions, self.table)
