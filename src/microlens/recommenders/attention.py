"""Transformer blocks with causal self-attention over packed histories."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.recommenders.dropout import Dropout

NORM_EPS = 1e-6
HIDDEN = -1e4  # logit of a masked key: its exponential is zero, and the value fits half precision


class TransformerBlock(nn.Module):
    """Self-attention, then a feed-forward network of width 4D, each with dropout, residual connection and LayerNorm."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = CausalAttention(dim, heads, dropout)
        self.attention_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.expand = nn.Linear(dim, 4 * dim)
        self.contract = nn.Linear(4 * dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.dropout = Dropout(dropout)
        for linear in (self.expand, self.contract):
            init.xavier_normal_(linear.weight)
            init.zeros_(linear.bias)

    def forward(self, packed: Tensor, real: Tensor, mask: Tensor, kept: Tensor | None = None) -> Tensor:
        """Map (T, D) to (T, D), or to (R, D) for the rows ``kept`` (R,); the rest as in :class:`CausalAttention`."""
        attended = self.attention(packed, real, mask)
        if kept is not None:
            attended, packed = attended.index_select(0, kept), packed.index_select(0, kept)
        packed = self.attention_norm(packed + self.dropout(attended))
        fed = self.contract(functional.relu(self.expand(packed)))  # (T or R, D)
        normed: Tensor = self.feed_forward_norm(packed + self.dropout(fed))
        return normed


class CausalAttention(nn.Module):
    """Multi-head attention without biases; queries, keys and values are projected in one matrix product."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self.dropout = Dropout(dropout)
        for part in self.query_key_value.weight.chunk(3):
            init.xavier_normal_(part)
        init.xavier_normal_(self.output.weight)

    def forward(self, packed: Tensor, real: Tensor, mask: Tensor) -> Tensor:
        """Attend among the packed items of each sequence: (T, D) to (T, D).

        Args:
            packed: (T, D) states of the real items.
            real: (T,) their indices in (B*L,).
            mask: (heads*B, L keys, L queries) additive mask, see :func:`attention_mask`.
        """
        (T, D), (sequences, L, _) = packed.shape, mask.shape  # sequences = heads*B
        size = D // self.heads
        # Layout: heads first, so that the products below need no copies of their operands; keys before queries, so that
        # the softmax over keys reduces along whole rows of queries, several times faster than over rows of ten numbers.
        projected = self.query_key_value(packed).view(T, 3 * self.heads, size).transpose(0, 1)  # (3*heads, T, size)
        unpacked = projected.new_zeros(3 * self.heads, sequences // self.heads * L, size)  # (3*heads, B*L, size)
        query, key, value = unpacked.index_copy_(1, real, projected).view(3, sequences, L, size).unbind()
        logits = torch.baddbmm(mask.to(key.dtype), key, query.transpose(1, 2), alpha=1 / math.sqrt(size))
        weights = self.dropout(logits.softmax(1))  # (heads*B, L keys, L queries)
        attended = (
            (weights.transpose(1, 2) @ value).view(self.heads, -1, size).index_select(1, real)
        )  # (heads, T, size)
        packed_again: Tensor = self.output(attended.transpose(0, 1).reshape(T, D))
        return packed_again


def attention_mask(history: Tensor, heads: int) -> Tensor:
    """The additive attention mask of every head, which hides the future and padding.

    Args:
        history: (B, L) item numbers, 0 at padding.
        heads: number of attention heads.

    Returns:
        (heads*B, L keys, L queries), 0 where a query may read a key and a large negative number elsewhere.
    """
    L = history.shape[1]
    not_before = torch.ones(L, L, dtype=torch.bool, device=history.device).triu()  # (L, L) true if query >= key
    visible = not_before & (history > 0)[:, :, None]  # (B, L, L)
    return torch.where(visible, 0.0, HIDDEN).repeat(heads, 1, 1)
