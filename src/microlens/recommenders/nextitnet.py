"""NextItNet (Yuan et al. 2019, arXiv 1808.05163), in the form of the MicroLens code."""

from torch import Tensor, nn
from torch.nn import functional

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.causal_convolution import CausalConvolution, Taps, at_rows, plan_taps
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
