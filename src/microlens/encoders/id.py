"""Items as learned id embeddings."""

from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder


class IdEncoder(ItemEncoder):
    """One learned vector an item, Xavier-normal at the start as in the original code.

    Args:
        num_items: N; row 0 of the table is padding.
        dim: D.
    """

    known_items_only = True

    def __init__(self, *, num_items: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(init.xavier_normal_(Tensor(num_items + 1, dim)))

    def forward(self, items: ItemBatch) -> Tensor:
        """Look the items up: (M, D)."""
        return functional.embedding(items.items, self.table)
