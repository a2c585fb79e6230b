"""The scores of all items after a history, of which only the best are kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from microlens.data.interactions import Int64
from microlens.feed.candidates import Bools, Candidates
from microlens.feed.served_model import Float32, ServedModel, ahead

KEPT = 256
Place = tuple[float, int]


@dataclass(frozen=True, eq=False)
class ScoredItems:
    """Scores (C,) that are computed again where more than the best items are needed, which is rare.

    Attributes:
        compute: computes the scores; minus infinity where an item has none.
        find: finds the score of an item and its rank from 1, or None if it has no score.
        items: (K,) the items with the highest scores, the highest first, equal scores by number.
        scores: (K,) their scores.
        are_all: True if no other item has a score.
    """

    compute: Callable[[], Float32]
    find: Callable[[int], Place | None]
    items: Int64
    scores: Float32
    are_all: bool

    @classmethod
    def of(cls, compute: Callable[[], Float32]) -> Self:
        """Compute the scores, and keep the best."""
        scores = compute()
        return cls._of_best(compute, lambda item: _place(compute(), item), np.arange(len(scores)), scores, len(scores))

    @classmethod
    def of_model(cls, model: ServedModel, history: list[int]) -> Self:
        """The best items of a model after a history; see :meth:`ServedModel.scores`."""
        found = model.best(history, KEPT)
        if found is None:
            return cls.of(lambda: model.scores(history))
        return cls._of_best(
            lambda: model.scores(history), lambda item: model.place(item, history), *found, len(model.rows)
        )

    @classmethod
    def _of_best(
        cls,
        compute: Callable[[], Float32],
        find: Callable[[int], Place | None],
        items: Int64,
        scores: Float32,
        size: int,
    ) -> Self:
        """Keep the best of some items (K,), ascending, which are all of ``size`` items or hold the best of them."""
        best = torch.from_numpy(scores).topk(min(KEPT, len(scores)))
        indices, values = best.indices.numpy(), best.values.numpy()
        are_all = len(indices) == size or values[-1] == -np.inf
        last = -np.inf if are_all else values[-1]  # items that are not kept may have this score, too
        indices, values = indices[values > last], values[values > last]
        order = np.lexsort([indices, -values])
        return cls(compute, find, items[indices[order]], values[order], are_all)

    def best(self, candidates: Candidates) -> int | None:
        """The candidate with the highest score, the first of equal ones; None if no candidate has a score."""
        chosen = next((item for item in self.items.tolist() if item in candidates), None)
        return chosen if chosen is not None or self.are_all else _best(self.compute(), candidates.mask)

    def place(self, item: int) -> Place | None:
        """The score of an item and its rank from 1 among all with a score; None if it has no score."""
        (kept,) = np.nonzero(self.items == item)
        if len(kept):
            return float(self.scores[kept[0]]), int(kept[0]) + 1
        return None if self.are_all else self.find(item)


def _best(scores: Float32, candidates: Bools) -> int | None:
    size = min(len(scores), len(candidates))
    masked = np.where(candidates[:size], scores[:size], np.float32(-np.inf))
    best = int(masked.argmax())
    return best if masked[best] > -np.inf else None


def _place(scores: Float32, item: int) -> Place | None:
    if item >= len(scores) or scores[item] == -np.inf:
        return None
    return float(scores[item]), 1 + ahead(scores, scores[item], item)
