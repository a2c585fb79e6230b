"""GRU4Rec (Hidasi et al. 2016, arXiv 1511.06939), in the form of the MicroLens code."""

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.utils.rnn import PackedSequence

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.padding import LeftToRight, Padding


class GRU4Rec(LeftToRight):
    """A gated recurrent network over a user's item vectors; its hidden state is the user.

    The recurrence runs over real items alone, packed: with MicroLens' short histories more than half of all positions
    are padding.

    Args:
        item_encoder: item tower of size ``dim``.
        dim: D.
        blocks: recurrent layers.
        dropout: on the item vectors that are read, and nowhere else.
        padding: what stands before a user's first item, see ``LeftToRight``.
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
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.GRU(dim, dim, blocks, bias=False)
        for name, weight in self.layers.named_parameters():
            if name.endswith("_l0"):  # layer 0 only, as in the original
                init.xavier_uniform_(weight)

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The hidden state after each item: (B, L, D), zero at padding."""
        read, vectors = self.what_is_read(history, vectors)
        positions, sizes, _ = step_major(read)
        states: Tensor = self.layers(self._packed(vectors, positions, sizes))[0].data
        return states.new_zeros(read.numel(), states.shape[1]).index_copy_(0, positions, states).view_as(vectors)

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The hidden state after the last item: (B, D)."""
        read, vectors = self.what_is_read(history, vectors)
        positions, sizes, order = step_major(read)
        states: Tensor = self.layers(self._packed(vectors, positions, sizes))[1][-1]
        return states.new_empty(states.shape).index_copy_(0, order, states)

    def _packed(self, vectors: Tensor, positions: Tensor, sizes: Tensor) -> PackedSequence:
        packed = vectors.reshape(-1, vectors.shape[2]).index_select(0, positions)
        return PackedSequence(self.dropout(packed), sizes)


def step_major(read: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The order in which a recurrent network wants its items: all first ones, then all second ones, and so on.

    Args:
        read: (B, L) true at the items, which stand at the end of each row.

    Returns:
        ``positions`` (T,) of the T items in (B*L,), a user without any being given the last position; ``sizes`` (at
        most L,) how many users have a first, second, ... item, on the CPU; ``order`` (B,) of the users in each step,
        the longest history first.
    """
    L = read.shape[1]
    lengths = read.sum(1).clamp(min=1).cpu()  # one wait for the device, and the rest is small
    order = lengths.argsort(descending=True, stable=True)
    columns = L - lengths[order] + torch.arange(L)[:, None]  # (steps, users)
    exists = columns < L
    positions = (order * L + columns)[exists]
    sizes = exists.sum(1)
    return positions.to(read.device), sizes[sizes > 0], order.to(read.device)
