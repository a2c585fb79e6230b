"""Dilated causal convolutions over packed histories."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional, init


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
