"""GRU4Rec (Hidasi et al. 2016, arXiv 1511.06939), in the form of the MicroLens code."""

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.utils.rnn import PackedSequence

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.dropout import Dropout
from microlens.recommenders.padding import LeftToRight, Padding


class GRU4Rec(LeftToRight):
    """A gated recurrent network over the history's item vectors (Hidasi et al. 2016); its hidden state is the user.

    The recurrence runs on packed sequences without padding: with MicroLens' short histories more than half of all
    positions are padding.

    Args:
        item_encoder: item tower with output size ``dim``.
        dim: D, the size of item vectors and hidden states.
        blocks: number of recurrent layers.
        dropout: dropout rate of the input vectors; there is no other dropout.
        padding: treatment of padding, see :class:`LeftToRight`.
    """

    def __init__(
        self,
        *,
        item_encoder: ItemEncoder,
        dim: int,
        blocks: int = 1,
        dropout: float = 0.1,
        padding: Padding = "masked",
    ) -> None:
        super().__init__(item_encoder, padding)
        if blocks < 1:
            raise ValueError(f"blocks = {blocks}: must be at least 1")
        self.dropout = Dropout(dropout)
        self.layers = nn.GRU(dim, dim, blocks, bias=False)
        for name, weight in self.layers.named_parameters():
            if name.endswith("_l0"):  # layer 0 only, as in the original
                init.xavier_uniform_(weight)

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The hidden state after each item: (B, L, D), zero at padding."""
        read, vectors = self.mask_and_vectors(history, vectors)
        positions, sizes, _ = step_major(read)
        states: Tensor = self.layers(self._packed(vectors, positions, sizes))[0].data
        return states.new_zeros(read.numel(), states.shape[1]).index_copy_(0, positions, states).view_as(vectors)

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The hidden state after the last item: (B, D)."""
        read, vectors = self.mask_and_vectors(history, vectors)
        positions, sizes, order = step_major(read)
        states: Tensor = self.layers(self._packed(vectors, positions, sizes))[1][-1]
        return states.new_empty(states.shape).index_copy_(0, order, states)

    def _packed(self, vectors: Tensor, positions: Tensor, sizes: Tensor) -> PackedSequence:
        packed = vectors.reshape(-1, vectors.shape[2]).index_select(0, positions)  # (T, D)
        return PackedSequence(self.dropout(packed), sizes)


def step_major(read: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The step-major order of packed sequences: first the first items of all users, then the second items, and so on.

    Args:
        read: (B, L) true at the items, which are at the end of each row.

    Returns:
        ``positions`` (T,), indices of the T items into (B*L,), where a user without items gets the last position;
        ``sizes`` (at most L,), the number of users with a first, second, ... item, on the CPU; ``order`` (B,), the
        users of each step, longest history first.
    """
    L = read.shape[1]
    lengths = read.sum(1).clamp(min=1).cpu()  # (B,), the only device synchronization; the rest is small
    order = lengths.argsort(descending=True, stable=True)
    columns = L - lengths[order] + torch.arange(L)[:, None]  # (L, B), one row per step
    exists = columns < L  # (L, B)
    positions = (order * L + columns)[exists]  # (T,)
    sizes = exists.sum(1)
    return positions.to(read.device), sizes[sizes > 0], order.to(read.device)
