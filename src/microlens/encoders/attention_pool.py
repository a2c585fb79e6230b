"""Attention over the frozen vectors of an item's frames."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder
from microlens.encoders.frozen_sequences import FrozenSequences


class AttentionPoolEncoder(ItemEncoder):
    r"""Pooling by multihead attention with one learned query, and a linear layer.

    With Z the item's frames (T, E), S the query (1, D) and rFF a linear layer and a ReLU for each row,

    .. math:: \mathrm{PMA}(Z) = \mathrm{LN}(H + \mathrm{rFF}(H)), \quad
        H = \mathrm{LN}(S + \mathrm{Multihead}(S, Y, Y)), \quad Y = \mathrm{rFF}(Z),

    the decoder of the Set Transformer with one seed vector (Lee et al. 2019, arXiv 1810.00825, eq. 6, 7 and 11).
    Missing frames get no attention. The order of frames does not matter.

    Args:
        path: a file of T vectors per item, which ``microlens features DATASET --encoder NAME --per-frame`` writes.
        dim: D, the size of item vectors.
        item_ids: (N+1,) the id of each item number.
        heads: number of attention heads, a divisor of D.

    Raises:
        ValueError: ``heads`` does not divide D.
    """

    known_items_only = True

    def __init__(self, *, path: str, dim: int, item_ids: ItemIds, heads: int = 4) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"heads = {heads} does not divide dim = {dim}")
        self.frames = FrozenSequences(path, item_ids)
        self.input = _linear(self.frames.feature_dim, dim)
        self.query = nn.Parameter(init.xavier_uniform_(torch.empty(1, dim)))
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.attention_norm, self.output_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.feed_forward, self.projection = _linear(dim, dim), _linear(dim, dim)

    def forward(self, items: ItemBatch) -> Tensor:
        """Pool the frames of the items: (M, D)."""
        vectors, present = self.frames.of(items.items)  # (M, T, E), (M, T)
        frames = functional.relu(self.input(vectors))  # (M, T, D)
        query = self.query.expand(len(frames), 1, -1)
        attended, _ = self.attention(query, frames, frames, key_padding_mask=~present, need_weights=False)
        hidden = self.attention_norm(query + attended)[:, 0]  # (M, D)
        hidden = self.output_norm(hidden + functional.relu(self.feed_forward(hidden)))
        projected: Tensor = self.projection(hidden)
        return projected


def _linear(size_in: int, size_out: int) -> nn.Linear:
    layer = nn.Linear(size_in, size_out)
    init.xavier_normal_(layer.weight)
    init.zeros_(layer.bias)
    return layer
