"""Several towers as one."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import init

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ContentGroup, ItemEncoder


class Fusion(ItemEncoder):
    """Several towers' vectors made into one.

    Args:
        towers: at least two encoders of the same D.
    """

    def __init__(self, *, towers: list[ItemEncoder]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(towers)
        self.needs = frozenset().union(*(tower.needs for tower in towers))
        self.known_items_only = any(tower.known_items_only for tower in towers)

    def towers(self) -> Iterator[ItemEncoder]:
        """All towers, those of fusions inside too."""
        for part in self.parts:
            assert isinstance(part, ItemEncoder)
            yield from part.towers()

    @property
    def reads(self) -> frozenset[str]:
        """What all towers read."""
        return frozenset().union(*(tower.reads for tower in self.towers()))

    @property
    def may_lack(self) -> frozenset[str]:
        """What an item may be without for every tower that sees it."""
        strict = frozenset().union(*(tower.needs - tower.may_lack for tower in self.towers()))
        return frozenset().union(*(tower.may_lack for tower in self.towers())) - strict

    @property
    def batch_statistics(self) -> bool:
        """Whether any tower has them."""
        return any(tower.batch_statistics for tower in self.towers())

    @property
    def sees_content(self) -> bool:
        """Whether any tower does."""
        return any(tower.sees_content for tower in self.towers())

    def content_groups(self) -> list[ContentGroup]:
        """Those of all towers."""
        return [group for tower in self.towers() for group in tower.content_groups()]

    def vectors(self, items: ItemBatch) -> list[Tensor]:
        """Each tower's vectors, (M, D), in the towers' order."""
        return [part(items) for part in self.parts]


class SumEncoder(Fusion):
    """The sum of several towers' vectors.

    Args:
        towers: at least two encoders of the same D.
    """

    def forward(self, items: ItemBatch) -> Tensor:
        """Add the towers' vectors: (M, D)."""
        first, *others = self.vectors(items)
        return sum(others, first)


class MeanEncoder(Fusion):
    """The mean of several towers' vectors.

    Args:
        towers: at least two encoders of the same D.
    """

    def forward(self, items: ItemBatch) -> Tensor:
        """Average the towers' vectors: (M, D)."""
        return torch.stack(self.vectors(items)).mean(0)


class ConcatEncoder(Fusion):
    """The towers' vectors side by side, then two linear layers without anything between, as in the original code.

    Args:
        towers: n >= 2 encoders of the same D.
        dim: D.
    """

    def __init__(self, *, towers: list[ItemEncoder], dim: int) -> None:
        super().__init__(towers=towers)
        self.mix = _linear(len(towers) * dim, dim)
        self.output = _linear(dim, dim)

    def forward(self, items: ItemBatch) -> Tensor:
        """Mix the towers' vectors: (M, D)."""
        mixed: Tensor = self.output(self.mix(torch.cat(self.vectors(items), 1)))
        return mixed


class FilmEncoder(Fusion):
    """Feature-wise linear modulation (Perez et al. 2018, arXiv 1709.07871) of the first tower by the others in turn.

    With x the first tower's vector, each other tower's vector y, in order, makes of it gamma(y) * x + beta(y), both
    linear; a linear layer follows. Gamma starts around 1, so that many towers do not fade the first one out.

    Args:
        towers: at least two encoders of the same D.
        dim: D.
    """

    def __init__(self, *, towers: list[ItemEncoder], dim: int) -> None:
        super().__init__(towers=towers)
        modulations = [_linear(dim, 2 * dim) for _ in towers[1:]]
        for modulation in modulations:
            init.ones_(modulation.bias[:dim])
        self.modulations = nn.ModuleList(modulations)
        self.output = _linear(dim, dim)

    def forward(self, items: ItemBatch) -> Tensor:
        """Modulate the first tower's vectors: (M, D)."""
        modulated, *others = self.vectors(items)
        for modulation, other in zip(self.modulations, others, strict=True):
            scale, shift = modulation(other).chunk(2, dim=1)
            modulated = scale * modulated + shift
        fused: Tensor = self.output(modulated)
        return fused


class GatedEncoder(Fusion):
    """The first tower's vectors through a gate that all others open together (Kiela et al. 2018, arXiv 1802.02892).

    W(V x * sigmoid(U y)), each letter a linear layer with a bias, x the first tower's vector and y those of the others
    side by side: with two towers the original code's formula.

    Args:
        towers: n >= 2 encoders of the same D.
        dim: D.
    """

    def __init__(self, *, towers: list[ItemEncoder], dim: int) -> None:
        super().__init__(towers=towers)
        self.value = _linear(dim, dim)
        self.gate = _linear((len(towers) - 1) * dim, dim)
        self.output = _linear(dim, dim)

    def forward(self, items: ItemBatch) -> Tensor:
        """Gate the first tower's vectors: (M, D)."""
        first, *others = self.vectors(items)
        gated: Tensor = self.output(self.value(first) * self.gate(torch.cat(others, 1)).sigmoid())
        return gated


def _linear(size_in: int, size_out: int) -> nn.Linear:
    """A linear layer that starts as all of this package's do."""
    layer = nn.Linear(size_in, size_out)
    init.xavier_normal_(layer.weight)
    init.zeros_(layer.bias)
    return layer


FUSIONS: dict[str, type[Fusion]] = {
    "sum": SumEncoder,
    "mean": MeanEncoder,
    "concat": ConcatEncoder,
    "film": FilmEncoder,
    "gated": GatedEncoder,
}
