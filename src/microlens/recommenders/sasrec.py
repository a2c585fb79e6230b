"""SASRec (Kang and McAuley 2018, arXiv 1808.09781), in the form of the MicroLens code."""

from torch import Tensor, nn
from torch.nn import init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.attention import NORM_EPS, TransformerBlock, attention_mask
from microlens.recommenders.base import Recommender


class SASRec(Recommender):
    """Causal self-attention over the history's item vectors and learned positions (Kang and McAuley 2018).

    Blocks are post-norm. The T real items of a batch are packed and padding is never computed: with MicroLens' short
    histories more than half of all positions are padding.

    Args:
        item_encoder: item tower with output size ``dim``.
        dim: D, the size of item vectors and states.
        history_length: L, the number of positions.
        blocks: number of transformer blocks.
        heads: number of attention heads; must divide ``dim``.
        dropout: dropout rate after the positions, on attention weights, and on both outputs of each block.
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
        """The causal states of all positions: (B, L, D), zero at padding."""
        real = (history > 0).flatten().nonzero().squeeze(1)  # (T,) indices of the real items in (B*L,)
        packed = self._encode(history, vectors, real, kept=None)  # (T, D)
        return packed.new_zeros(vectors[..., 0].numel(), vectors.shape[2]).index_copy_(0, real, packed).view_as(vectors)

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The last state of each user: (B, D). The last block's feed-forward network runs for these states only."""
        real = (history > 0).flatten().nonzero().squeeze(1)  # (T,)
        has_history = (history[:, -1] > 0).nonzero().squeeze(1)  # (R,) users with at least one item
        kept = (history > 0).sum(1).cumsum(0)[has_history] - 1  # (R,) index of each user's last item among the T
        states = self._encode(history, vectors, real, kept)  # (R, D)
        return states.new_zeros(len(history), vectors.shape[2]).index_copy_(0, has_history, states)

    def _encode(self, history: Tensor, vectors: Tensor, real: Tensor, kept: Tensor | None) -> Tensor:
        """The states of the T real items, (T, D), or of ``kept`` (R,) of them, (R, D)."""
        L, D = vectors.shape[1:]
        placed = vectors.reshape(-1, D).index_select(0, real) + self.positions[-L:].index_select(0, real % L)  # (T, D)
        packed: Tensor = self.dropout(self.norm(placed))
        mask = attention_mask(history, self.heads)  # (heads*B, L, L)
        for block in self.blocks[:-1]:
            packed = block(packed, real, mask)
        last: Tensor = self.blocks[-1](packed, real, mask, kept)
        return last
