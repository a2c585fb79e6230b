"""HSTU (Zhai et al. 2024, arXiv 2402.17152)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.attention import HIDDEN, NORM_EPS
from microlens.recommenders.dropout import Dropout
from microlens.recommenders.packed import PackedRecommender, at_positions, check_sizes


class HSTU(PackedRecommender):
    """Hierarchical sequential transduction units: attention without softmax, and gates (Zhai et al. 2024).

    The relative attention bias is by position; histories carry no times. Defaults are those of the authors' settings
    for MovieLens-1M. The authors train with a softmax over 128 sampled negatives.

    Args:
        item_encoder: item tower with output size ``dim``.
        dim: D, the size of item vectors and states.
        history_length: L, the number of positions.
        blocks: number of units.
        heads: number of attention heads; must divide ``dim``.
        dropout: dropout rate after the positions and before the output of each unit.
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
        dropout: float = 0.2,
        temperature: float = 0.05,
    ) -> None:
        super().__init__(item_encoder, temperature)
        check_sizes(dim, blocks, heads)
        self.positions = nn.Parameter(init.trunc_normal_(Tensor(history_length, dim), std=dim**-0.5))
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList([TransductionUnit(dim, history_length, heads, dropout) for _ in range(blocks)])

    def packed_states(self, history: Tensor, vectors: Tensor, real: Tensor, kept: Tensor | None) -> Tensor:
        """The states of the real items; the last unit's output is computed for ``kept`` only."""
        scaled = vectors * math.sqrt(vectors.shape[2])
        packed: Tensor = self.dropout(at_positions(scaled, self.positions, real))  # (T, D)
        for block in self.blocks[:-1]:
            packed = block(packed, real, history.shape)
        last: Tensor = self.blocks[-1](packed, real, history.shape, kept)
        return last


class TransductionUnit(nn.Module):
    r"""The unit of HSTU, equations 1 to 3:

    .. math:: U, V, Q, K = \mathrm{SiLU}(\mathrm{LN}(X) W), \quad A = \mathrm{SiLU}(Q K^T + b) / L, \quad
        Y = X + f(\mathrm{LN}(A V) \odot U)

    where b depends on the distance between query and key, the softmax is left out, and norms have no parameters, as in
    the authors' code.
    """

    def __init__(self, dim: int, history_length: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(dim, 4 * dim, bias=False)  # U, V, Q, K
        self.distances = nn.Parameter(init.normal_(Tensor(history_length), std=0.02))  # b of distance 0, 1, ...
        self.output = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS, elementwise_affine=False)
        self.dropout = Dropout(dropout)
        init.normal_(self.project.weight, std=0.02)
        init.xavier_uniform_(self.output.weight)
        init.zeros_(self.output.bias)

    def forward(self, packed: Tensor, real: Tensor, shape: tuple[int, int], kept: Tensor | None = None) -> Tensor:
        """Map the real items, (T, D), to (T, D), or to (R, D) for the rows ``kept`` (R,).

        Args:
            packed: (T, D) states of the real items.
            real: (T,) their indices in (B*L,).
            shape: B and L.
            kept: rows of the output; None for all.
        """
        D = packed.shape[1]
        gate, projected = functional.silu(self.project(self.norm(packed))).tensor_split([D], 1)
        attended = self._attend(projected, real, shape)  # (T, D)
        if kept is not None:
            attended, gate, packed = (part.index_select(0, kept) for part in (attended, gate, packed))
        moved: Tensor = packed + self.output(self.dropout(self.norm(attended) * gate))
        return moved

    def _attend(self, projected: Tensor, real: Tensor, shape: tuple[int, int]) -> Tensor:
        """The sum of the values that each item reads: (T, 3D) values, queries and keys to (T, D)."""
        (B, L), (T, width) = shape, projected.shape
        size = width // (3 * self.heads)
        by_head = projected.reshape(T, 3 * self.heads, size).transpose(0, 1)  # (3*heads, T, size)
        unpacked = by_head.new_zeros(3 * self.heads, B * L, size).index_copy_(1, real, by_head)
        value, query, key = unpacked.view(3, self.heads * B, L, size).unbind()
        # The future is hidden by its bias, padding by values of zero.
        logits = torch.baddbmm(self._bias(L).to(key.dtype), query, key.transpose(1, 2))  # (heads*B, L queries, L keys)
        weights = functional.silu(logits) / len(self.distances)
        attended = (weights @ value).view(self.heads, B * L, size).index_select(1, real)  # (heads, T, size)
        return attended.transpose(0, 1).reshape(T, width // 3)

    def _bias(self, L: int) -> Tensor:
        """The bias of each query (row) and key (column): (L, L), a large negative number in the future."""
        index = torch.arange(L, device=self.distances.device)
        distance = index[:, None] - index  # (L, L)
        return torch.where(distance >= 0, self.distances[distance.clamp(min=0)], HIDDEN)
