"""Fusion of several item encoders into one."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import init

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ContentGroup, ItemEncoder


class Fusion(ItemEncoder):
    """Base class of encoders that combine the vectors of several encoders.

    Args:
        towers: at least two encoders with the same D.
    """

    def __init__(self, *, towers: list[ItemEncoder]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(towers)
        self.needs = frozenset().union(*(tower.needs for tower in towers))
        self.known_items_only = any(tower.known_items_only for tower in towers)

    def towers(self) -> Iterator[ItemEncoder]:
        """Iterate over all encoders, including those of nested fusions."""
        for part in self.parts:
            assert isinstance(part, ItemEncoder)
            yield from part.towers()

    @property
    def reads(self) -> frozenset[str]:
        """The kinds of content that the encoders read."""
        return frozenset().union(*(tower.reads for tower in self.towers()))

    @property
    def reads_of_new(self) -> frozenset[str] | None:
        """What the encoders read of an item outside the catalogue; None if one of them cannot encode it."""
        reads = [tower.reads_of_new for tower in self.towers()]
        return None if None in reads else frozenset().union(*(of_tower or () for of_tower in reads))

    @property
    def may_lack(self) -> frozenset[str]:
        """The kinds of content that items may lack for every encoder that needs them."""
        strict = frozenset().union(*(tower.needs - tower.may_lack for tower in self.towers()))
        return frozenset().union(*(tower.may_lack for tower in self.towers())) - strict

    @property
    def batch_statistics(self) -> bool:
        """True if any encoder uses batch statistics in training."""
        return any(tower.batch_statistics for tower in self.towers())

    @property
    def sees_content(self) -> bool:
        """Whether any tower does."""
        return any(tower.sees_content for tower in self.towers())

    def content_groups(self) -> list[ContentGroup]:
        """The content groups of all encoders."""
        return [group for tower in self.towers() for group in tower.content_groups()]

    def vectors(self, items: ItemBatch) -> list[Tensor]:
        """The vectors of each encoder, (M, D), in the order of the encoders."""
        return [part(items) for part in self.parts]


class SumEncoder(Fusion):
    """The sum of the vectors of several encoders.

    Args:
        towers: at least two encoders with the same D.
    """

    def forward(self, items: ItemBatch) -> Tensor:
        """Add the encoders' vectors: (M, D)."""
        first, *others = self.vectors(items)
        return sum(others, first)


class MeanEncoder(Fusion):
    """The mean of the vectors of several encoders.

    Args:
        towers: at least two encoders with the same D.
    """

    def forward(self, items: ItemBatch) -> Tensor:
        """Average the encoders' vectors: (M, D)."""
        return torch.stack(self.vectors(items)).mean(0)


class ConcatEncoder(Fusion):
    """The concatenation of the encoders' vectors through two linear layers without an activation between them.

    Follows the original code.

    Args:
        towers: n >= 2 encoders with the same D.
        dim: D, the size of item vectors.
    """

    def __init__(self, *, towers: list[ItemEncoder], dim: int) -> None:
        super().__init__(towers=towers)
        self.mix = _linear(len(towers) * dim, dim)
        self.output = _linear(dim, dim)

    def forward(self, items: ItemBatch) -> Tensor:
        """Project the concatenated vectors: (M, D)."""
        mixed: Tensor = self.output(self.mix(torch.cat(self.vectors(items), 1)))
        return mixed


class FilmEncoder(Fusion):
    """FiLM: feature-wise linear modulation of the first encoder by the others (Perez et al. 2018, arXiv 1709.07871).

    With x the first encoder's vector, each further encoder's vector y in turn replaces x by gamma(y) * x + beta(y),
    both linear; a linear layer follows. Gamma starts around 1, so that many encoders do not fade out the first one.

    Args:
        towers: at least two encoders with the same D.
        dim: D, the size of item vectors.
    """

    def __init__(self, *, towers: list[ItemEncoder], dim: int) -> None:
        super().__init__(towers=towers)
        modulations = [_linear(dim, 2 * dim) for _ in towers[1:]]
        for modulation in modulations:
            init.ones_(modulation.bias[:dim])
        self.modulations = nn.ModuleList(modulations)
        self.output = _linear(dim, dim)

    def forward(self, items: ItemBatch) -> Tensor:
        """Modulate the first encoder's vectors: (M, D)."""
        modulated, *others = self.vectors(items)
        for modulation, other in zip(self.modulations, others, strict=True):
            scale, shift = modulation(other).chunk(2, dim=1)
            modulated = scale * modulated + shift
        fused: Tensor = self.output(modulated)
        return fused


class GatedEncoder(Fusion):
    """A gate computed from all other encoders, applied to the first encoder's vectors (Kiela et al. 2018).

    W(V x * sigmoid(U y)), where each letter is a linear layer with bias, x the first encoder's vector and y the
    concatenated vectors of the others (arXiv 1802.02892). With two encoders this is the original code's formula.

    Args:
        towers: n >= 2 encoders with the same D.
        dim: D, the size of item vectors.
    """

    def __init__(self, *, towers: list[ItemEncoder], dim: int) -> None:
        super().__init__(towers=towers)
        self.value = _linear(dim, dim)
        self.gate = _linear((len(towers) - 1) * dim, dim)
        self.output = _linear(dim, dim)

    def forward(self, items: ItemBatch) -> Tensor:
        """Gate the first encoder's vectors: (M, D)."""
        first, *others = self.vectors(items)
        gated: Tensor = self.output(self.value(first) * self.gate(torch.cat(others, 1)).sigmoid())
        return gated


def _linear(size_in: int, size_out: int) -> nn.Linear:
    """A linear layer with this package's initialization."""
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
