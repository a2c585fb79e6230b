"""The train part as pairs and matrices, and matrices of which only some numbers are not zero."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from microlens.data.interactions import Int64
from microlens.data.split import Split


def train_part(split: Split) -> tuple[Int64, Int64]:
    """User (T,) and item (T,) of each interaction of the train part: user by user, oldest first."""
    users, positions = split.train_events
    return users, split.sequences[positions].astype(np.int64)


def user_items(split: Split) -> Any:
    """The train part as a CSR matrix (U, N) of float32 ones; column i is item i + 1."""
    users, items = train_part(split)
    ones = np.ones(len(users), np.float32)
    matrix = sparse.csr_matrix((ones, (users, items - 1)), shape=(split.num_users, split.num_items))
    matrix.data[:] = 1.0  # an item that a user had twice
    return matrix


def following_pairs(split: Split) -> Iterator[tuple[int, Int64, Int64]]:
    """For every gap g from 1: g, and the items (P,) of the train part with those (P,) g positions after them."""
    users, items = train_part(split)
    for gap in range(1, len(users)):
        same_user = users[gap:] == users[:-gap]
        if not same_user.any():
            return
        yield gap, items[:-gap][same_user], items[gap:][same_user]


def summed(sources: Int64, targets: Int64, values: Any, num_items: int) -> Any:
    """The sums of ``values`` (P,) by pair of items (P,) and (P,), as a CSR matrix (N, N); row i is item i + 1."""
    return sparse.csr_matrix((values, (sources - 1, targets - 1)), shape=(num_items, num_items), dtype=np.float64)


class SparseRows(nn.Module):
    """A row of scores for each item, most of them zero, in buffers.

    ``offsets`` (N+2,) says where the row of each item number begins in ``columns`` and ``values``.
    """

    offsets: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offsets", torch.zeros(0, dtype=torch.long))
        self.register_buffer("columns", torch.zeros(0, dtype=torch.long))
        self.register_buffer("values", torch.zeros(0))

    def fill(self, matrix: Any) -> None:
        """Take the CSR matrix (N, N), whose row and column i are item i + 1."""
        device = self.values.device
        offsets = np.concatenate([[0], matrix.indptr]).astype(np.int64)
        self.offsets = torch.from_numpy(offsets).to(device)
        self.columns = torch.from_numpy(matrix.indices.astype(np.int64) + 1).to(device)
        self.values = torch.from_numpy(matrix.data.astype(np.float32)).to(device)

    def fits(self, num_items: int) -> bool:
        """Whether there is a row for each of N items, with columns of these items."""
        if len(self.offsets) != num_items + 2 or len(self.columns) != len(self.values):
            return False
        ascending = bool(self.offsets[0] == 0 and (self.offsets.diff() >= 0).all())
        inside = bool(((self.columns > 0) & (self.columns <= num_items)).all())
        return ascending and inside and int(self.offsets[-1]) == len(self.columns)

    def weighted_sum(self, items: Tensor, weights: Tensor) -> Tensor:
        """The rows of ``items`` (Q, L), times ``weights`` (Q, L), added up over L: (Q, N+1)."""
        (Q, L), width = items.shape, len(self.offsets) - 1
        flat = items.flatten()
        lengths = self.offsets.diff()[flat]
        ends = lengths.cumsum(0)
        row = torch.arange(Q * L, device=items.device).repeat_interleave(lengths)  # (E,) whose entry it is
        positions = torch.arange(len(row), device=items.device) + (self.offsets[flat] + lengths - ends)[row]
        values = self.values[positions] * weights.flatten()[row]
        sums = self.values.new_zeros(Q * width)
        return sums.index_add_(0, row // L * width + self.columns[positions], values).view(Q, width)
