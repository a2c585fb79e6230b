"""Learned embeddings of popularity bins."""

from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder


class PopularityBinsEncoder(ItemEncoder):
    """One learned vector per popularity bin, initialized Xavier-normal: the paper's side feature "Pop" (Table 5).

    Bins have equal width between zero and the most popular item's count, so most items fall into the first. Popularity
    is counted in the training set only, because held-out interactions are unknown at prediction time.

    Args:
        train_counts: (N+1,) training interactions of each item number.
        dim: D, the size of item vectors.
        bins: number of bins, at least 2.
    """

    known_items_only = True
    bin_of_item: Tensor

    def __init__(self, *, train_counts: Tensor, dim: int, bins: int = 10) -> None:
        super().__init__()
        if bins < 2:
            raise ValueError(f"bins = {bins}: at least 2 are needed")
        bin_of_item = train_counts * bins // max(1, int(train_counts.max()))
        self.register_buffer("bin_of_item", bin_of_item.clamp_(max=bins - 1), persistent=False)
        self.table = nn.Parameter(init.xavier_normal_(Tensor(bins, dim)))

    @property
    def reads_of_new(self) -> frozenset[str]:
        """Nothing: an item without interactions is in the first bin."""
        return frozenset()

    def forward(self, items: ItemBatch) -> Tensor:
        """Look up the vectors of the items' bins: (M, D)."""
        return functional.embedding(self.bin_of_item[items.items], self.table)
