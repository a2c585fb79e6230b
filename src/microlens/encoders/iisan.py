"""Side networks over the cached layers of frozen encoders: IISAN.

Fu et al., "IISAN: Efficiently Adapting Multimodal Representation for Sequential Recommendation with Decoupled PEFT",
SIGIR 2024, arXiv 2404.02059; for encoders of different depth and width, IISAN-Versa, TKDE 2025, arXiv 2411.02992.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder
from microlens.encoders.frozen_sequences import FrozenSequences
from microlens.errors import InputError

GATE_TEMPERATURE = 0.1
DEVIATION = 0.01  # of the initial weights of adapters


class Adapter(nn.Module):
    """An adapter block: a bottleneck with a residual connection, x + up(gelu(down(x))), (M, E) to (M, E).

    Args:
        width: E.
        bottleneck: width between the two layers.
    """

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        for layer in (self.down, self.up):
            init.normal_(layer.weight, std=DEVIATION)
            init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Adapt (M, E)."""
        adapted: Tensor = x + self.up(functional.gelu(self.down(x)))
        return adapted


class SideNetwork(nn.Module):
    """The intra-modal network of one encoder: s_i = Adapter_i(mu_i s_{i-1} + (1 - mu_i) h_i), s_0 = 0.

    The gates are mu = sigmoid(g / 0.1) with learned g, at first 1/2.

    Args:
        layers: T, the number of layers h.
        width: E.
        bottleneck: width inside the adapters.
    """

    def __init__(self, layers: int, width: int, bottleneck: int) -> None:
        super().__init__()
        self.adapters = nn.ModuleList(Adapter(width, bottleneck) for _ in range(layers))
        self.gates = nn.Parameter(torch.zeros(layers))

    def forward(self, layers: Tensor) -> Tensor:
        """Layers (M, T, E) to (M, E)."""
        side = torch.zeros_like(layers[:, 0])
        for number, (adapter, gate) in enumerate(zip(self.adapters, _opened(self.gates), strict=True)):
            side = adapter(gate * side + (1 - gate) * layers[:, number])
        return side


class InterModalNetwork(nn.Module):
    """The inter-modal network of two encoders: c_i = Adapter_i(c_{i-1} + mu_i a_i + (1 - mu_i) b_i), c_0 = 0.

    The wider of the two layers a_i and b_i first passes a linear layer to the width of the other.

    Args:
        layers: T, the number of layers of each encoder.
        widths: the widths of a and b.
        bottleneck: width inside the adapters.
    """

    def __init__(self, layers: int, widths: tuple[int, int], bottleneck: int) -> None:
        super().__init__()
        self.width = min(widths)
        self.narrows = nn.ModuleList(
            nn.ModuleList(nn.Linear(width, self.width) if width > self.width else nn.Identity() for width in widths)
            for _ in range(layers)
        )
        self.adapters = nn.ModuleList(Adapter(self.width, bottleneck) for _ in range(layers))
        self.gates = nn.Parameter(torch.zeros(layers))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Layers a (M, T, E) and b (M, T, E') to (M, min(E, E'))."""
        side = first.new_zeros(len(first), self.width)
        for number, gate in enumerate(_opened(self.gates)):
            pair = self.narrows[number]
            assert isinstance(pair, nn.ModuleList)
            a, b = pair[0](first[:, number]), pair[1](second[:, number])
            side = self.adapters[number](side + gate * a + (1 - gate) * b)
        return side


def _opened(gates: Tensor) -> Sequence[Tensor]:
    return list((gates / GATE_TEMPERATURE).sigmoid())


class IISANEncoder(ItemEncoder):
    """IISAN over the cached layers of one or two frozen encoders, such as those of titles and of covers.

    An intra-modal side network for each encoder and an inter-modal one for both (see :class:`SideNetwork` and
    :class:`InterModalNetwork`), a linear layer on the output of each and a projection to D; the vectors are
    concatenated and projected to D. Nothing of the encoders is computed in training. Of one encoder, the intra-modal
    network alone is left.

    Only every second layer is used, down from the last one (the paper's LayerDrop; of BERT-base the embeddings and
    layers 2, 4, ..., 12). If one encoder has more of them, its first ones are left to its own network (IISAN-Versa).

    Args:
        paths: one or two files of T vectors per item, which ``microlens features DATASET --encoder NAME --layers all``
            writes.
        dim: D, the size of item vectors.
        item_ids: (N+1,) the id of each item number.
        every: use every n-th layer.
        bottleneck: width inside the adapters.

    Raises:
        InputError: a file cannot be used, an item lacks a layer, or there are not one or two files.
        ValueError: an option is below 1.
    """

    known_items_only = True

    def __init__(self, *, paths: list[str], dim: int, item_ids: ItemIds, every: int = 2, bottleneck: int = 64) -> None:
        super().__init__()
        if len(paths) not in (1, 2):
            raise InputError(f"encoder.paths has {len(paths)} files; iisan takes those of one or two encoders.")
        if every < 1 or bottleneck < 1:
            raise ValueError(f"every = {every} and bottleneck = {bottleneck}; both must be at least 1")
        self.every = every
        sources = [FrozenSequences(path, item_ids) for path in paths]
        for path, source in zip(paths, sources, strict=True):
            if not source.present.all():
                raise InputError(f"{path}: an item lacks the vector of a layer, which iisan needs.")
        self.sources = nn.ModuleList(sources)
        depths = [-(-source.num_vectors // every) for source in sources]
        widths = [source.feature_dim for source in sources]
        self.intra = nn.ModuleList(SideNetwork(*sizes, bottleneck) for sizes in zip(depths, widths, strict=True))
        self.inter = InterModalNetwork(min(depths), (widths[0], widths[1]), bottleneck) if len(paths) == 2 else None
        ends = widths + ([self.inter.width] if self.inter else [])
        self.ends = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.Linear(width, dim)) for width in ends)
        self.output = nn.Linear(len(ends) * dim, dim)

    def forward(self, items: ItemBatch) -> Tensor:
        """Encode the items: (M, D)."""
        layers = [self._layers(source, items.items) for source in self.sources]
        sides = [network(states) for network, states in zip(self.intra, layers, strict=True)]
        if self.inter is not None:
            shared = min(states.shape[1] for states in layers)
            sides.append(self.inter(*(states[:, -shared:] for states in layers)))
        vectors = [end(side) for end, side in zip(self.ends, sides, strict=True)]
        encoded: Tensor = self.output(torch.cat(vectors, 1))
        return encoded

    def _layers(self, source: nn.Module, items: Tensor) -> Tensor:
        """Every n-th layer of the items, up to the last one: (M, T, E)."""
        assert isinstance(source, FrozenSequences)
        states, _ = source.of(items)
        return states[:, (source.num_vectors - 1) % self.every :: self.every]
