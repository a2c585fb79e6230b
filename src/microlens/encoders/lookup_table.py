"""A table of vectors of which a training step reads a few rows."""

from collections.abc import Callable
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn
from torch.nn import functional


class LookupTable(nn.Parameter):
    """A parameter (N, D) that is read by rows.

    Ordinary until an optimizer that updates rows takes it over by setting ``before_reading``: gradients are then
    sparse, and rows are made current before they are read. See :class:`microlens.training.row_adamw.RowAdamW`.
    """

    before_reading: Callable[[Tensor], None] | None = None

    def rows(self, numbers: Tensor) -> Tensor:
        """Look up ``numbers`` (...), integers below N: (..., D)."""
        if self.before_reading is None:
            return functional.embedding(numbers, self)
        self.before_reading(numbers)  # without gradients, too: gradient caching reads rows twice
        return functional.embedding(numbers, self, sparse=torch.is_grad_enabled())

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Pickle the values; a copy belongs to no optimizer."""
        return LookupTable, (self.data, self.requires_grad)
