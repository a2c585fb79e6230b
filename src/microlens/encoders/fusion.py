"""Several towers as one."""

from torch import Tensor, nn

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder


class SumEncoder(ItemEncoder):
    """The sum of several towers' vectors.

    Args:
        towers: at least two encoders of the same D.
    """

    def __init__(self, *, towers: list[ItemEncoder]) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)
        self.needs = frozenset().union(*(tower.needs for tower in towers))
        self.known_items_only = any(tower.known_items_only for tower in towers)

    def forward(self, items: ItemBatch) -> Tensor:
        """Add the towers' vectors: (M, D)."""
        total: Tensor = sum(tower(items) for tower in self.towers)
        return total

    def content_parameters(self) -> list[nn.Parameter]:
        """Those of all towers."""
        return [parameter for tower in self.towers for parameter in tower.content_parameters()]  # type: ignore[operator]
