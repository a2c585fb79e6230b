"""The training set as item pairs and sparse matrices, and sparse score rows as a PyTorch module."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from microlens.data.interactions import Int64
from microlens.data.split import Split


def train_part(split: Split) -> tuple[Int64, Int64]:
    """User (T,) and item (T,) numbers of the T training interactions, sorted by user, then oldest first."""
    users, positions = split.train_events
    return users, split.sequences[positions].astype(np.int64)


def user_items(split: Split) -> Any:
    """The training set as a binary CSR matrix (U, N) of float32; column i is item i + 1."""
    from scipy import sparse  # slow to load, and of use to models of counts alone

    users, items = train_part(split)
    ones = np.ones(len(users), np.float32)
    matrix = sparse.csr_matrix((ones, (users, items - 1)), shape=(split.num_users, split.num_items))
    matrix.data[:] = 1.0  # csr_matrix sums duplicates; an item counts once per user
    return matrix


def following_pairs(split: Split) -> Iterator[tuple[int, Int64, Int64]]:
    """Yield, for each gap g = 1, 2, ...: g, and the pairs of training items, (P,) and (P,), g positions apart."""
    users, items = train_part(split)
    for gap in range(1, len(users)):
        same_user = users[gap:] == users[:-gap]  # (T - gap,)
        if not same_user.any():
            return
        yield gap, items[:-gap][same_user], items[gap:][same_user]


def summed(sources: Int64, targets: Int64, values: Any, num_items: int) -> Any:
    """Sum ``values`` (P,) by item pair, ``sources`` (P,) and ``targets`` (P,).

    Returns:
        A CSR matrix (N, N); row and column i are item i + 1.
    """
    from scipy import sparse

    return sparse.csr_matrix((values, (sources - 1, targets - 1)), shape=(num_items, num_items), dtype=np.float64)


class SparseRows(nn.Module):
    """A sparse matrix of scores in buffers, with one row per item number.

    ``offsets`` (N+2,) gives the start of the row of each item number in ``columns`` (nnz,) and ``values`` (nnz,).
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
        """Store the CSR matrix (N, N), whose row and column i are item i + 1."""
        device = self.values.device
        offsets = np.concatenate([[0], matrix.indptr]).astype(np.int64)
        self.offsets = torch.from_numpy(offsets).to(device)
        self.columns = torch.from_numpy(matrix.indices.astype(np.int64) + 1).to(device)
        self.values = torch.from_numpy(matrix.data.astype(np.float32)).to(device)

    def fits(self, num_items: int) -> bool:
        """True if there is a row for each of N items and all columns are valid item numbers."""
        if len(self.offsets) != num_items + 2 or len(self.columns) != len(self.values):
            return False
        ascending = bool(self.offsets[0] == 0 and (self.offsets.diff() >= 0).all())
        inside = bool(((self.columns > 0) & (self.columns <= num_items)).all())
        return ascending and inside and int(self.offsets[-1]) == len(self.columns)

    def weighted_sum(self, items: Tensor, weights: Tensor) -> Tensor:
        """Sum the rows of ``items`` (Q, L), weighted by ``weights`` (Q, L), over L: (Q, N+1)."""
        (Q, L), width = items.shape, len(self.offsets) - 1  # width = N + 1
        flat = items.flatten()  # (Q*L,)
        lengths = self.offsets.diff()[flat]  # (Q*L,) number of entries of each row
        ends = lengths.cumsum(0)  # (Q*L,)
        row = torch.arange(Q * L, device=items.device).repeat_interleave(lengths)  # (E,) index into flat of each entry
        positions = torch.arange(len(row), device=items.device) + (self.offsets[flat] + lengths - ends)[row]  # (E,)
        values = self.values[positions] * weights.flatten()[row]  # (E,)
        sums = self.values.new_zeros(Q * width)
        return sums.index_add_(0, row // L * width + self.columns[positions], values).view(Q, width)
