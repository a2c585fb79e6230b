"""FMLP-Rec (Zhou et al. 2022, arXiv 2202.13556), with causal filters."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.attention import NORM_EPS
from microlens.recommenders.dropout import Dropout
from microlens.recommenders.packed import PackedRecommender, at_positions, check_sizes


class FMLP(PackedRecommender):
    """Learned filters of each component over the history, then feed-forward networks (Zhou et al. 2022).

    The paper multiplies in the frequency domain, which is a circular convolution: each state would read the items
    after it. Here the filters, given by their values at each distance, reach back only, so that every position can be
    trained. The last state of the first block is that of the paper.

    Args:
        item_encoder: item tower with output size ``dim``.
        dim: D, the size of item vectors and states.
        history_length: L, the number of positions and the length of the filters.
        blocks: number of blocks.
        dropout: dropout rate after the positions and on both outputs of each block.
        temperature: 0 scores by dot products; above 0, the score is the cosine divided by this number.
    """

    def __init__(
        self,
        *,
        item_encoder: ItemEncoder,
        dim: int,
        history_length: int,
        blocks: int = 2,
        dropout: float = 0.5,
        temperature: float = 0.0,
    ) -> None:
        super().__init__(item_encoder, temperature)
        check_sizes(dim, blocks, heads=1)
        self.positions = nn.Parameter(init.xavier_normal_(Tensor(history_length, dim)))
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList([FilterBlock(dim, history_length, dropout) for _ in range(blocks)])

    def packed_states(self, history: Tensor, vectors: Tensor, real: Tensor, kept: Tensor | None) -> Tensor:
        """The states of the real items; the last block's feed-forward network runs for ``kept`` only."""
        packed: Tensor = self.dropout(self.norm(at_positions(vectors, self.positions, real)))  # (T, D)
        for block in self.blocks[:-1]:
            packed = block(packed, real, history.shape)
        last: Tensor = self.blocks[-1](packed, real, history.shape, kept)
        return last


class FilterBlock(nn.Module):
    """A filter, then a feed-forward network of width 4D, each with dropout, residual connection and LayerNorm."""

    def __init__(self, dim: int, history_length: int, dropout: float) -> None:
        super().__init__()
        # The paper draws the filter's spectrum with deviation 0.02; these are its values after the inverse transform.
        self.taps = nn.Parameter(init.normal_(Tensor(history_length, dim), std=0.02 * (2 / history_length) ** 0.5))
        self.filter_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.expand = nn.Linear(dim, 4 * dim)
        self.contract = nn.Linear(4 * dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.dropout = Dropout(dropout)
        for linear in (self.expand, self.contract):
            init.xavier_normal_(linear.weight)
            init.zeros_(linear.bias)

    def forward(self, packed: Tensor, real: Tensor, shape: tuple[int, int], kept: Tensor | None = None) -> Tensor:
        """Map the real items, (T, D), to (T, D), or to (R, D) for the rows ``kept`` (R,).

        Args:
            packed: (T, D) states of the real items.
            real: (T,) their indices in (B*L,).
            shape: B and L.
            kept: rows of the output; None for all.
        """
        filtered = self._filter(packed, real, shape)
        if kept is not None:
            filtered, packed = filtered.index_select(0, kept), packed.index_select(0, kept)
        packed = self.filter_norm(packed + self.dropout(filtered))
        fed = self.contract(functional.gelu(self.expand(packed)))  # (T or R, D)
        normed: Tensor = self.feed_forward_norm(packed + self.dropout(fed))
        return normed

    def _filter(self, packed: Tensor, real: Tensor, shape: tuple[int, int]) -> Tensor:
        (B, L), D = shape, packed.shape[1]
        index = torch.arange(L, device=packed.device)
        distance = (index[:, None] - index)[..., None]  # (L, L, 1) from position (row) back to item (column)
        kernel = torch.where(distance >= 0, self.taps[distance[..., 0].clamp(min=0)], 0.0).to(packed.dtype)  # (L, L, D)
        unpacked = packed.new_zeros(B * L, D).index_copy_(0, real, packed).view(B, L, D)
        return torch.einsum("qkd,bkd->bqd", kernel, unpacked).reshape(B * L, D).index_select(0, real)
