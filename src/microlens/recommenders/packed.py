"""Base class of attention models that read packed histories, and their score."""

from abc import abstractmethod

from torch import Tensor
from torch.nn import functional

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.recommenders.base import Recommender


class PackedRecommender(Recommender):
    """A causal model that computes the T real items of a batch and no padding.

    With MicroLens' short histories more than half of all positions are padding.

    Args:
        item_encoder: item tower.
        temperature: 0 scores by dot products; above 0, item vectors have length 1 and the score is the cosine of state
            and item vector, divided by this number.

    Raises:
        ValueError: ``temperature`` is negative.
    """

    def __init__(self, item_encoder: ItemEncoder, temperature: float) -> None:
        super().__init__(item_encoder)
        if temperature < 0:
            raise ValueError(f"temperature = {temperature}: must be 0 or more")
        self.temperature = temperature

    @abstractmethod
    def packed_states(self, history: Tensor, vectors: Tensor, real: Tensor, kept: Tensor | None) -> Tensor:
        """The states of the real items, (T, D), or of some of them, (R, D).

        Args:
            history: (B, L) item numbers, left-padded with 0.
            vectors: (B, L, D) their vectors.
            real: (T,) indices of the real items in (B*L,).
            kept: (R,) indices into the T items; None for all.
        """

    def encode_items(self, items: ItemBatch) -> Tensor:
        """Encode distinct items: (M, D), of length 1 with a temperature."""
        vectors = super().encode_items(items)
        return functional.normalize(vectors, dim=1) if self.temperature else vectors

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The causal states of all positions: (B, L, D), zero at padding."""
        real = (history > 0).flatten().nonzero().squeeze(1)  # (T,)
        packed = self._scaled(self.packed_states(history, vectors, real, None))  # (T, D)
        return packed.new_zeros(vectors[..., 0].numel(), vectors.shape[2]).index_copy_(0, real, packed).view_as(vectors)

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The last state of each user: (B, D). What only other states depend on is not computed in the last block."""
        real = (history > 0).flatten().nonzero().squeeze(1)  # (T,)
        has_history = (history[:, -1] > 0).nonzero().squeeze(1)  # (R,) users with at least one item
        kept = (history > 0).sum(1).cumsum(0)[has_history] - 1  # (R,) index of each user's last item among the T
        states = self._scaled(self.packed_states(history, vectors, real, kept))  # (R, D)
        return states.new_zeros(len(history), vectors.shape[2]).index_copy_(0, has_history, states)

    def _scaled(self, states: Tensor) -> Tensor:
        return functional.normalize(states, dim=1) / self.temperature if self.temperature else states


def at_positions(values: Tensor, table: Tensor, real: Tensor) -> Tensor:
    """Pack vectors and add those of their positions.

    Args:
        values: (B, L, D) vectors of the history.
        table: (at least L, D) vectors of the positions; the last one is that of the last item.
        real: (T,) indices of the real items in (B*L,).

    Returns:
        (T, D).
    """
    L, D = values.shape[1:]
    return values.reshape(-1, D).index_select(0, real) + table[-L:].index_select(0, real % L)


def check_sizes(dim: int, blocks: int, heads: int) -> None:
    """Raise ValueError unless there are blocks and heads, and heads divide ``dim``."""
    if blocks < 1 or heads < 1 or dim % heads:
        raise ValueError(f"blocks = {blocks}, heads = {heads}: both must be at least 1, and heads divide dim = {dim}")
