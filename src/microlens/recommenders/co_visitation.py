"""Co-visitation with decay by distance and scaling by popularity."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from microlens.data.interactions import Int64
from microlens.data.split import Split
from microlens.recommenders.counting import SparseRows, following_pairs, summed
from microlens.recommenders.fitted import Fitted, recency_weights

Floats = npt.NDArray[np.float64]

PAIRS_AT_ONCE = 4_000_000
TIE_BREAK = 1e-6  # score of the most popular item, small beside the weights of pairs that are not far apart


class CoVisitation(Fitted):
    """Ranks items by how often they follow the items of the history, with weights that decay with distance.

    The score of item j sums, over the last items i of the history, the weight of the pair (i, j) times
    ``recency_decay`` to the power of i's age. The weight of a pair adds, for each time j follows i in a user's training
    sequence, ``gap_decay`` to the power of the number of items between them, and is divided by powers of the training
    counts of i and j. Popularity adds at most 1e-6, which breaks ties.

    Args:
        gap_decay: decay per item between i and j, in (0, 1].
        source_power: exponent of i's training count, at least 0.
        target_power: exponent of j's training count, at least 0.
        recency_decay: decay per item after i in the history, in (0, 1].
        last: number of most recent items of the history used; 0: all.
    """

    depends_on_seed = False
    revision = 2  # other defaults than in 0.2.0
    sizes = {"popularity": ("items",)}  # noqa: RUF012
    popularity: Tensor

    def __init__(
        self,
        *,
        gap_decay: float = 0.9,
        source_power: float = 0.3,
        target_power: float = 0.15,
        recency_decay: float = 1.0,
        last: int = 0,
    ) -> None:
        super().__init__()
        if not (0 < gap_decay <= 1 and 0 < recency_decay <= 1):
            raise ValueError(
                f"gap_decay = {gap_decay:g}, recency_decay = {recency_decay:g}: both must be above 0 and at most 1"
            )
        if source_power < 0 or target_power < 0 or last < 0:
            raise ValueError(
                f"source_power = {source_power:g}, target_power = {target_power:g}, last = {last}: all "
                "must be at least 0"
            )
        self.gap_decay, self.recency_decay, self.last = gap_decay, recency_decay, last
        self.source_power, self.target_power = source_power, target_power
        self.following = SparseRows()
        self.register_buffer("popularity", torch.zeros(0))

    def fit(self, split: Split) -> None:
        """Accumulate the decayed weights of all item pairs of the training set."""
        counts = split.train_counts.astype(np.float64)
        self.following.fill(
            _decayed_counts(split, self.gap_decay, counts**self.source_power, counts**self.target_power)
        )
        popularity = torch.from_numpy(TIE_BREAK * counts / max(counts.max(), 1.0))
        self.popularity = popularity.float().to(self.popularity.device)

    def scores(self, states: Tensor) -> Tensor:
        """Weighted sums of the rows of the last items, plus the tie-breaking popularity: (Q, N+1)."""
        history = states[:, -self.last :]
        return self.following.weighted_sum(history, recency_weights(history, self.recency_decay)).add_(self.popularity)


def _decayed_counts(split: Split, decay: float, of_source: Floats, of_target: Floats) -> Any:
    """Pairs of the training set, weighted by distance and divided by the scales (N+1,) of their items: CSR (N, N)."""
    from scipy import sparse  # slow to load

    total = sparse.csr_matrix((split.num_items, split.num_items), dtype=np.float64)
    waiting: list[tuple[Int64, Int64, Floats]] = []
    num_waiting = 0
    for gap, sources, targets in following_pairs(split):
        waiting.append((sources, targets, decay ** (gap - 1) / (of_source[sources] * of_target[targets])))
        num_waiting += len(sources)
        if num_waiting >= PAIRS_AT_ONCE:
            total, num_waiting = total + _sum(waiting, split.num_items), 0
            waiting.clear()
    return total + _sum(waiting, split.num_items) if waiting else total


def _sum(pairs: list[tuple[Int64, Int64, Floats]], num_items: int) -> Any:
    sources, targets, values = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    return summed(sources, targets, values, num_items)
