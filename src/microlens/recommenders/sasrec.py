"""SASRec (Kang and McAuley 2018, arXiv 1808.09781), in the form of the MicroLens code."""

from torch import Tensor, nn
from torch.nn import init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.attention import NORM_EPS, TransformerBlock, attention_mask
from microlens.recommenders.dropout import Dropout
from microlens.recommenders.packed import PackedRecommender, at_positions, check_sizes


class SASRec(PackedRecommender):
    """Causal self-attention over the history's item vectors and learned positions (Kang and McAuley 2018).

    Blocks are post-norm. With ``train.loss = "gbce"`` this is gSASRec (Petrov and Macdonald 2023, arXiv 2308.07192) but
    for the blocks of its authors' code.

    Args:
        item_encoder: item tower with output size ``dim``.
        dim: D, the size of item vectors and states.
        history_length: L, the number of positions.
        blocks: number of transformer blocks.
        heads: number of attention heads; must divide ``dim``.
        dropout: dropout rate after the positions, on attention weights, and on both outputs of each block.
        temperature: 0 scores by dot products; above 0, the score is the cosine divided by this number.
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
        temperature: float = 0.0,
    ) -> None:
        super().__init__(item_encoder, temperature)
        check_sizes(dim, blocks, heads)
        self.heads = heads
        self.positions = nn.Parameter(init.xavier_normal_(Tensor(history_length, dim)))
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList([TransformerBlock(dim, heads, dropout) for _ in range(blocks)])

    def packed_states(self, history: Tensor, vectors: Tensor, real: Tensor, kept: Tensor | None) -> Tensor:
        """The states of the real items; the last block's feed-forward network runs for ``kept`` only."""
        packed: Tensor = self.dropout(self.norm(at_positions(vectors, self.positions, real)))  # (T, D)
        mask = attention_mask(history, self.heads)  # (heads*B, L, L)
        for block in self.blocks[:-1]:
            packed = block(packed, real, mask)
        last: Tensor = self.blocks[-1](packed, real, mask, kept)
        return last
