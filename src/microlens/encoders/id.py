"""Learned id embeddings."""

import torch
from torch import Tensor
from torch.nn import init

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.encoders.lookup_table import LookupTable


class IdEncoder(ItemEncoder):
    """One learned vector per item, initialized Xavier-normal as in the original code.

    With ``dropout``, an item's vector is zeroed in this fraction of training steps, and the vector of an item without
    training interactions is always zero: the other towers of a fusion then learn to work without it, as they must for
    new items (DropoutNet, Volkovs et al. 2017). Nothing is rescaled, because a missing vector marks an item as new.
    Without it, the vector of such an item is as random as at the start, and items outside the catalogue have none.

    Args:
        num_items: N; row 0 of the table is padding.
        dim: D, the size of item vectors.
        train_counts: (N+1,) training interactions of each item number; if None, every item counts as seen.
        dropout: dropout rate of whole vectors, in [0, 1).
    """

    known_items_only = True
    in_train: Tensor

    def __init__(self, *, num_items: int, dim: int, train_counts: Tensor | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout = {dropout}: it must be at least 0 and below 1")
        self.dropout = dropout
        self.table = LookupTable(init.xavier_normal_(Tensor(num_items + 1, dim)))
        in_train = torch.arange(num_items + 1) > 0 if train_counts is None else train_counts > 0
        self.register_buffer("in_train", in_train, persistent=False)

    @property
    def reads_of_new(self) -> frozenset[str] | None:
        """Nothing, with ``dropout``: the vector is zero. None without."""
        return frozenset() if self.dropout else None

    def forward(self, items: ItemBatch) -> Tensor:
        """Look up the vectors: (M, D)."""
        vectors = self.table.rows(items.items)
        if not self.dropout:
            return vectors
        kept = self.in_train[items.items]
        if self.training:
            kept = kept & (torch.rand(kept.shape, device=kept.device) >= self.dropout)
        return vectors * kept[:, None]
