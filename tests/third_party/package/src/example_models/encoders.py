"""An item encoder that looks at covers."""

from torch import Tensor, nn
from torch.nn import functional

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder


class CoverColours(ItemEncoder):
    """A linear projection of a cover's mean colours in a grid of cells.

    Args:
        dim: D.
        cells: cells along each side.
    """

    needs = frozenset({"covers"})

    def __init__(self, *, dim: int, cells: int = 4) -> None:
        super().__init__()
        self.cells = cells
        self.projection = nn.Linear(3 * cells**2, dim)

    def forward(self, items: ItemBatch) -> Tensor:
        """Covers (M, 1, H, W, 3) uint8 to vectors (M, D)."""
        pixels = items.content["covers"][:, 0].permute(0, 3, 1, 2).float() / 255
        return self.projection(functional.adaptive_avg_pool2d(pixels, self.cells).flatten(1))
