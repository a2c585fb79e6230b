"""NextItNet (Yuan et al. 2019, arXiv 1808.05163), in the form of the MicroLens code."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.padding import LeftToRight, Padding

DILATIONS = (1, 4)
NORM_EPS = 1e-8


class NextItNet(LeftToRight):
    """Residual blocks of dilated causal convolutions over the history's item vectors (Yuan et al. 2019).

    Sequences are packed without padding, and a convolution is computed only for taps that fall on an item.

    Args:
        item_encoder: item tower with output size ``dim``.
        dim: D, the size of item vectors and states.
        blocks: number of pairs of residual blocks, with dilation 1 and 4.
        padding: treatment of padding, see :class:`LeftToRight`.
    """

    def __init__(self, *, item_encoder: ItemEncoder, dim: int, blocks: int = 2, padding: Padding = "masked") -> None:
        super().__init__(item_encoder, padding)
        if blocks < 1:
            raise ValueError(f"blocks = {blocks}: must be at least 1")
        self.blocks = nn.ModuleList([ResidualBlock(dim) for _ in DILATIONS * blocks])
        self.dilations = [factor * dilation for dilation in DILATIONS * blocks for factor in (1, 2)]

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The causal states of all positions: (B, L, D), zero at padding."""
        read, vectors = self.mask_and_vectors(history, vectors)
        positions = read.flatten().nonzero().squeeze(1)
        states = self._states_at(positions, read, vectors)
        return states.new_zeros(read.numel(), states.shape[1]).index_copy_(0, positions, states).view_as(vectors)

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The last state of each user: (B, D). Only what this state depends on is computed."""
        read, vectors = self.mask_and_vectors(history, vectors)
        has_history = read[:, -1].nonzero().squeeze(1)
        states = self._states_at((has_history + 1) * read.shape[1] - 1, read, vectors)
        return states.new_zeros(len(read), states.shape[1]).index_copy_(0, has_history, states)

    def _states_at(self, positions: Tensor, read: Tensor, vectors: Tensor) -> Tensor:
        """The states at ``positions`` (R,), indices into (B*L,): (R, D)."""
        plans, needed = plan_taps(positions, read, self.dilations)
        packed = vectors.reshape(-1, vectors.shape[2]).index_select(0, needed)  # (T, D)
        for block, first, second in zip(self.blocks, plans[::2], plans[1::2], strict=True):
            packed = block(packed, first, second)
        return packed


@dataclass(frozen=True)
class Taps:
    """The inputs of a causal convolution with three taps, as rows of its packed input.

    ``own`` (R,) is the input row at each output's own position. ``earlier`` holds, for the taps one and two dilations
    back, (output rows, input rows): the outputs that have an item that far back, and the row of that item.
    """

    own: Tensor
    earlier: list[tuple[Tensor, Tensor]]


def plan_taps(positions: Tensor, read: Tensor, dilations: list[int]) -> tuple[list[Taps], Tensor]:
    """Plan the rows that a stack of causal convolutions computes for the outputs at ``positions``, from last to first.

    Args:
        positions: (R,) indices into (B*L,), ascending.
        read: (B, L) true at positions that are read, which are at the end of each row.
        dilations: dilation of each convolution, first to last.

    Returns:
        The taps of each convolution, and the positions that the first one reads, ascending.
    """
    device, wanted = read.device, positions.cpu()  # many small operations on few numbers are faster on the CPU
    steps = (read.cumsum(1) - 1).flatten().cpu()  # (B*L,) number of items before each position
    plans = []
    for dilation in reversed(dilations):
        reach = [(steps[wanted] >= back).nonzero().squeeze(1) for back in (dilation, 2 * dilation)]
        sources = [wanted[rows] - back for rows, back in zip(reach, (dilation, 2 * dilation), strict=True)]
        is_needed = torch.zeros(len(steps), dtype=torch.bool)  # (B*L,)
        is_needed[torch.cat([wanted, *sources])] = True
        row_of = is_needed.cumsum(0) - 1  # (B*L,) row in the packed input, at needed positions
        earlier = [(rows.to(device), row_of[source].to(device)) for rows, source in zip(reach, sources, strict=True)]
        plans.append(Taps(row_of[wanted].to(device), earlier))
        wanted = is_needed.nonzero().squeeze(1)
    return plans[::-1], wanted.to(device)


class ResidualBlock(nn.Module):
    """Two rounds of convolution, LayerNorm and ReLU, the second with doubled dilation, plus a residual connection."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([CausalConvolution(dim) for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm(dim, eps=NORM_EPS) for _ in range(2)])

    def forward(self, packed: Tensor, first: Taps, second: Taps) -> Tensor:
        """Map (T, D) to (R, D), the rows of ``second``."""
        convolved = packed
        for convolution, norm, taps in zip(self.convolutions, self.norms, (first, second), strict=True):
            convolved = functional.relu(norm(convolution(convolved, taps)))
            packed = at_rows(packed, taps.own)
        return convolved + packed


class CausalConvolution(nn.Module):
    """A causal convolution with three taps, zero-padded at the start.

    ``weight`` (3, D, D) holds the taps, from the earliest to the current position.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(3 * dim)  # PyTorch's default initialization of convolutions
        self.weight = nn.Parameter(init.uniform_(torch.empty(3, dim, dim), -bound, bound))
        self.bias = nn.Parameter(init.uniform_(torch.empty(dim), -bound, bound))

    def forward(self, packed: Tensor, taps: Taps) -> Tensor:
        """Map (T, D) to (R, D)."""
        furthest, middle, own = self.weight.unbind()
        convolved = functional.linear(at_rows(packed, taps.own), own, self.bias)
        for weight, (rows, sources) in zip((middle, furthest), taps.earlier, strict=True):
            convolved = convolved.index_add(0, rows, functional.linear(packed.index_select(0, sources), weight))
        return convolved


def at_rows(packed: Tensor, rows: Tensor) -> Tensor:
    """``packed`` (T, D) at distinct ascending ``rows`` (R,): (R, D); not copied if all rows are selected."""
    return packed if len(rows) == len(packed) else packed.index_select(0, rows)
