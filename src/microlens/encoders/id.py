"""Items as learned id embeddings."""

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder


class IdEncoder(ItemEncoder):
    """One learned vector an item, Xavier-normal at the start as in the original code.

    With ``dropout``, an item is without its vector in that share of the training steps, and an item that the train part
    does not hold is always without: the towers beside this one in a fusion then learn to stand alone, which is how they
    find new items (Volkovs et al. 2017, DropoutNet). Nothing is scaled, for a missing vector says that an item is new.

    Args:
        num_items: N; row 0 of the table is padding.
        dim: D.
        train_counts: (N+1,) occurrences in the train part; without them, every item is taken to be in it.
        dropout: the share, from 0 to below 1.
    """

    known_items_only = True
    in_train: Tensor

    def __init__(self, *, num_items: int, dim: int, train_counts: Tensor | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout = {dropout}: it must be at least 0 and below 1")
        self.dropout = dropout
        self.table = nn.Parameter(init.xavier_normal_(Tensor(num_items + 1, dim)))
        in_train = torch.ones(num_items + 1, dtype=torch.bool) if train_counts is None else train_counts > 0
        self.register_buffer("in_train", in_train, persistent=False)

    def forward(self, items: ItemBatch) -> Tensor:
        """Look the items up: (M, D)."""
        vectors = functional.embedding(items.items, self.table)
        if not self.dropout:
            return vectors
        kept = self.in_train[items.items]
        if self.training:
            kept = kept & (torch.rand(kept.shape, device=kept.device) >= self.dropout)
        return vectors * kept[:, None]
