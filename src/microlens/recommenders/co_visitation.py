"""What came after the items of the history, near and far: decayed and scaled co-visitation."""

import numpy as np
import torch
from torch import Tensor

from microlens.data.split import Split
from microlens.recommenders.counting import SparseRows, following_pairs, summed
from microlens.recommenders.fitted import Fitted, recency_weights

TIE_BREAK = 1e-6  # what the most popular item gains; far below what a pair that occurred adds


class CoVisitation(Fitted):
    """Ranks items by how often they came after the items of the history, near ones counting more.

    The score of an item j is the sum, over the last items i of the history, of ``recency_decay`` to the power of
    i's age times the pair's weight: each time j comes after i in a user's train part adds ``gap_decay`` to the power
    of the items between them, and the sum is divided by powers of the two items' train counts. Popularity breaks ties.

    Args:
        gap_decay: in (0, 1].
        source_power: power of i's train count, at least 0.
        target_power: power of j's train count, at least 0.
        recency_decay: in (0, 1].
        last: how many items of the history count, at least 1.
    """

    sizes = {"popularity": ("items",)}  # noqa: RUF012
    popularity: Tensor

    def __init__(
        self,
        *,
        gap_decay: float = 0.9,
        source_power: float = 0.3,
        target_power: float = 0.15,
        recency_decay: float = 0.6,
        last: int = 10,
    ) -> None:
        super().__init__()
        if not (0 < gap_decay <= 1 and 0 < recency_decay <= 1):
            raise ValueError(
                f"gap_decay = {gap_decay:g}, recency_decay = {recency_decay:g}: both must be above 0 and at most 1"
            )
        if source_power < 0 or target_power < 0 or last < 1:
            raise ValueError(
                f"source_power = {source_power:g}, target_power = {target_power:g}, last = {last}: the powers must be "
                "at least 0 and last at least 1"
            )
        self.gap_decay, self.recency_decay, self.last = gap_decay, recency_decay, last
        self.source_power, self.target_power = source_power, target_power
        self.following = SparseRows()
        self.register_buffer("popularity", torch.zeros(0))

    def fit(self, split: Split) -> None:
        """Count all pairs of the train part, each with its gap's weight."""
        counts = split.train_counts.astype(np.float64)
        total = summed(split.items_kept[:0], split.items_kept[:0], np.zeros(0), split.num_items)
        for gap, sources, targets in following_pairs(split):
            scale = counts[sources] ** self.source_power * counts[targets] ** self.target_power
            total = total + summed(sources, targets, self.gap_decay ** (gap - 1) / scale, split.num_items)
        self.following.fill(total)
        popularity = torch.from_numpy(TIE_BREAK * counts / max(counts.max(), 1.0))
        self.popularity = popularity.float().to(self.popularity.device)

    def scores(self, states: Tensor) -> Tensor:
        """The weights of what came after the last items, plus next to nothing for popularity."""
        history = states[:, -self.last :]
        return self.following.weighted_sum(history, recency_weights(history, self.recency_decay)).add_(self.popularity)
