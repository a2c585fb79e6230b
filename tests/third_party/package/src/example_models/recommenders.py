"""A recommender that reads a window of the history."""

from torch import Tensor, nn
from torch.nn import functional

from microlens.encoders.base import ItemEncoder
from microlens.recommenders.base import Recommender


class Window(Recommender):
    """The mean of the last items, through a linear layer.

    Args:
        item_encoder: item tower of size ``dim``.
        dim: D.
        size: how many items are read, at least 1.
    """

    def __init__(self, *, item_encoder: ItemEncoder, dim: int, size: int = 2) -> None:
        super().__init__(item_encoder)
        if size < 1:
            raise ValueError(f"size = {size}: it must be at least 1")
        self.size = size
        self.output = nn.Linear(dim, dim)

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The window that ends at each position: (B, L, D)."""
        real = (history > 0).to(vectors.dtype)[..., None]
        windows = functional.pad(vectors * real, (0, 0, self.size - 1, 0)).unfold(1, self.size, 1).sum(-1)
        counts = functional.pad(real, (0, 0, self.size - 1, 0)).unfold(1, self.size, 1).sum(-1)
        return self.output(windows / counts.clamp(min=1))

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        """The window at the end: (B, D)."""
        return self.encode_users(users, history[:, -self.size :], vectors[:, -self.size :])[:, -1]
