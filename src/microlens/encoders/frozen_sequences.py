"""Frozen sequences of vectors in a file, as a source of encoders."""

import torch
from torch import Tensor, nn

from microlens.data.feature_sequences import FeatureSequences
from microlens.data.interactions import ItemIds


class FrozenSequences(nn.Module):
    """The T frozen vectors of each item, read from a file when they are used: no part of the model, nothing is trained.

    Args:
        path: path of a ``.npy`` array (rows, T, E), see :class:`microlens.data.feature_sequences.FeatureSequences`.
        item_ids: (N+1,) the id of each item number.

    Raises:
        InputError: the file cannot be used; the message says why.
    """

    present: Tensor

    def __init__(self, path: str, item_ids: ItemIds) -> None:
        super().__init__()
        self._file = FeatureSequences(path, item_ids[1:])
        self.num_vectors, self.feature_dim = self._file.num_vectors, self._file.feature_dim
        self.register_buffer("present", torch.from_numpy(self._file.present), persistent=False)

    def of(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors of items (M,): (M, T, E) float32, zero where missing, and (M, T), true where they exist."""
        vectors = torch.from_numpy(self._file.read(items.cpu().numpy()))
        return vectors.to(items.device).float(), self.present[items - 1]
