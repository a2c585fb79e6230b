"""Items as how popular they are."""

from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder


class PopularityBinsEncoder(ItemEncoder):
    """One learned vector a bin of popularity, Xavier-normal at the start: the paper's side feature "Pop" (Table 5).

    Bins are uniform: of equal width between no occurrence and the most popular item's, so that most items share the
    first. Popularity is counted in the train part alone, for what is held out is not known when a model is asked.

    Args:
        train_counts: (N+1,) occurrences in the train part.
        dim: D.
        bins: how many.
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

    def forward(self, items: ItemBatch) -> Tensor:
        """Look the items' bins up: (M, D)."""
        return functional.embedding(self.bin_of_item[items.items], self.table)
