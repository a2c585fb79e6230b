"""SASRec (Kang and McAuley 2018, arXiv 1808.09781), in the form of the MicroLens code."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.base import Recommender

NORM_EPS = 1e-6
HIDDEN = -1e4  # what a hidden key scores: no exponential survives it, and half precision can hold it


class SASRec(Recommender):
    """Learned positions and post-norm causal transformer blocks over a user's item vectors.

    The arithmetic runs over the T real items of a batch, packed, and never over padding: with MicroLens' short
    histories more than half of all positions are padding.

    Args:
        item_encoder: item tower of size ``dim``.
        dim: D.
        history_length: L, the number of positions.
        blocks: transformer blocks.
        heads: attention heads; divides ``dim``.
        dropout: after the positions, on the attention, and on each block's two outputs.
    """

    def __init__(
        self,
        *,
        item_encoder: ItemEncoder,
        dim: int,
        history_length: int,
        blocks: int = 2,
        heads: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(item_encoder)
        if blocks < 1 or heads < 1 or dim % heads:
            raise ValueError(
                f"blocks = {blocks}, heads = {heads}: both must be at least 1, and heads divide dim = {dim}"
            )
        self.heads = heads
        self.positions = nn.Parameter(init.xavier_normal_(Tensor(history_length, dim)))
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList([TransformerBlock(dim, heads, dropout) for _ in range(blocks)])

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """Each position sees itself and what is before it: (B, L, D), zero at padding."""
        real = (history > 0).flatten().nonzero().squeeze(1)  # (T,) where the real items lie in (B*L,)
        packed = self._encode(history, vectors, real, kept=None)
        return packed.new_zeros(vectors[..., 0].numel(), vectors.shape[2]).index_copy_(0, real, packed).view_as(vectors)

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The last state of each user, (B, D): the last block's feed-forward network runs for it alone."""
        real = (history > 0).flatten().nonzero().squeeze(1)
        has_history = (history[:, -1] > 0).nonzero().squeeze(1)
        kept = (history > 0).sum(1).cumsum(0)[has_history] - 1  # the last real item of each user, among the T
        states = self._encode(history, vectors, real, kept)
        return states.new_zeros(len(history), vectors.shape[2]).index_copy_(0, has_history, states)

    def _encode(self, history: Tensor, vectors: Tensor, real: Tensor, kept: Tensor | None) -> Tensor:
        """The states at the T real items, (T, D), or at ``kept`` of them."""
        L, D = vectors.shape[1:]
        placed = vectors.reshape(-1, D).index_select(0, real) + self.positions[-L:].index_select(0, real % L)
        packed: Tensor = self.dropout(self.norm(placed))
        mask = attention_mask(history, self.heads)
        for block in self.blocks[:-1]:
            packed = block(packed, real, mask)
        last: Tensor = self.blocks[-1](packed, real, mask, kept)
        return last


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward network of four times the width, each with dropout, residual and LayerNorm."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = CausalAttention(dim, heads, dropout)
        self.attention_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.expand = nn.Linear(dim, 4 * dim)
        self.contract = nn.Linear(4 * dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.expand, self.contract):
            init.xavier_normal_(linear.weight)
            init.zeros_(linear.bias)

    def forward(self, packed: Tensor, real: Tensor, mask: Tensor, kept: Tensor | None = None) -> Tensor:
        """(T, D) to (T, D), or to the rows ``kept``; ``real`` (T,) and ``mask`` say where the T items stand."""
        attended = self.attention(packed, real, mask)
        if kept is not None:
            attended, packed = attended.index_select(0, kept), packed.index_select(0, kept)
        packed = self.attention_norm(packed + self.dropout(attended))
        fed = self.contract(functional.relu(self.expand(packed)))
        normed: Tensor = self.feed_forward_norm(packed + self.dropout(fed))
        return normed


class CausalAttention(nn.Module):
    """Multi-head attention without biases; queries, keys and values in one matrix product."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self.dropout = nn.Dropout(dropout)
        for part in self.query_key_value.weight.chunk(3):
            init.xavier_normal_(part)
        init.xavier_normal_(self.output.weight)

    def forward(self, packed: Tensor, real: Tensor, mask: Tensor) -> Tensor:
        """(T, D) to (T, D): unpack to heads * B sequences of (L, D / heads), attend, pack again."""
        (T, D), (sequences, L, _) = packed.shape, mask.shape
        size = D // self.heads
        # Heads first and keys before queries: every product below then reads its operands where they lie, and the
        # softmax over keys runs along whole rows of queries, several times faster than over ten numbers at a time.
        projected = self.query_key_value(packed).view(T, 3 * self.heads, size).transpose(0, 1)
        unpacked = projected.new_zeros(3 * self.heads, sequences // self.heads * L, size)
        query, key, value = unpacked.index_copy_(1, real, projected).view(3, sequences, L, size).unbind()
        logits = torch.baddbmm(mask.to(key.dtype), key, query.transpose(1, 2), alpha=1 / math.sqrt(size))
        weights = self.dropout(logits.softmax(1))  # (heads * B, keys, queries)
        attended = (weights.transpose(1, 2) @ value).view(self.heads, -1, size).index_select(1, real)
        packed_again: Tensor = self.output(attended.transpose(0, 1).reshape(T, D))
        return packed_again


def attention_mask(history: Tensor, heads: int) -> Tensor:
    """What may not be attended to, the future and padding, as an additive mask for the logits of every head.

    Args:
        history: (B, L) item numbers, 0 at padding.
        heads: attention heads.

    Returns:
        (heads * B, L keys, L queries), 0 where a query may read a key and a large negative number elsewhere.
    """
    L = history.shape[1]
    not_before = torch.ones(L, L, dtype=torch.bool, device=history.device).triu()  # the query is the key or after it
    visible = not_before & (history > 0)[:, :, None]
    return torch.where(visible, 0.0, HIDDEN).repeat(heads, 1, 1)
