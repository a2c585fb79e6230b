"""eSASRec (Tikhonovich et al. 2025, arXiv 2508.06450)."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.attention import NORM_EPS, CausalAttention, attention_mask
from microlens.recommenders.dropout import Dropout
from microlens.recommenders.packed import PackedRecommender, at_positions, check_sizes


class ESASRec(PackedRecommender):
    """SASRec with LiGR blocks: pre-norm, gated residual connections, SwiGLU (Tikhonovich et al. 2025).

    The paper trains it with a softmax over 256 sampled negatives; ``train.loss = "full-softmax"`` is its limit, the
    whole catalogue.

    Args:
        item_encoder: item tower with output size ``dim``.
        dim: D, the size of item vectors and states.
        history_length: L, the number of positions.
        blocks: number of LiGR blocks.
        heads: number of attention heads; must divide ``dim``.
        dropout: dropout rate after the positions, on attention weights, on hidden units, and on both outputs of each
            block.
        temperature: 0 scores by dot products; above 0, the score is the cosine divided by this number.
    """

    def __init__(
        self,
        *,
        item_encoder: ItemEncoder,
        dim: int,
        history_length: int,
        blocks: int = 2,
        heads: int = 1,
        dropout: float = 0.1,
        temperature: float = 0.0,
    ) -> None:
        super().__init__(item_encoder, temperature)
        check_sizes(dim, blocks, heads)
        self.heads = heads
        self.positions = nn.Parameter(init.xavier_normal_(Tensor(history_length, dim)))
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList([LiGRBlock(dim, heads, dropout) for _ in range(blocks)])

    def packed_states(self, history: Tensor, vectors: Tensor, real: Tensor, kept: Tensor | None) -> Tensor:
        """The states of the real items; the last block's feed-forward network runs for ``kept`` only."""
        packed: Tensor = self.dropout(at_positions(vectors, self.positions, real))  # (T, D)
        mask = attention_mask(history, self.heads)  # (heads*B, L, L)
        for block in self.blocks[:-1]:
            packed = block(packed, real, mask)
        last: Tensor = self.blocks[-1](packed, real, mask, kept)
        return last


class LiGRBlock(nn.Module):
    """x + sigmoid(W x + b) F(LayerNorm(x)), where F is self-attention, then a SwiGLU network (Borisyuk et al. 2025).

    From LiGR (arXiv 2502.03417), as in the authors' code of eSASRec.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attention = CausalAttention(dim, heads, dropout)
        self.attention_gate = nn.Linear(dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.expand = nn.Linear(dim, 8 * dim, bias=False)  # the half through SiLU, then the other
        self.contract = nn.Linear(4 * dim, dim, bias=False)
        self.feed_forward_gate = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)
        for half in self.expand.weight.chunk(2):
            init.xavier_normal_(half)
        init.xavier_normal_(self.contract.weight)
        for gate in (self.attention_gate, self.feed_forward_gate):
            init.xavier_normal_(gate.weight)
            init.zeros_(gate.bias)

    def forward(self, packed: Tensor, real: Tensor, mask: Tensor, kept: Tensor | None = None) -> Tensor:
        """Map (T, D) to (T, D), or to (R, D) for the rows ``kept`` (R,); the rest as in :class:`CausalAttention`."""
        attended = self.attention(self.attention_norm(packed), real, mask)
        if kept is not None:
            attended, packed = attended.index_select(0, kept), packed.index_select(0, kept)
        packed = torch.addcmul(packed, self.attention_gate(packed).sigmoid(), self.dropout(attended))
        gate, value = self.expand(self.feed_forward_norm(packed)).chunk(2, 1)
        fed = self.contract(self.dropout(functional.silu(gate) * value))  # (T or R, D)
        return torch.addcmul(packed, self.feed_forward_gate(packed).sigmoid(), self.dropout(fed))
