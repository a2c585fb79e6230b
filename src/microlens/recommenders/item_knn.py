"""Nearest neighbours among items by shared users."""

import warnings
from typing import Literal

import torch
from torch import Tensor

from microlens.data.split import Split
from microlens.recommenders.counting import SparseRows, user_items
from microlens.recommenders.fitted import Fitted
from microlens.recommenders.implicit_library import implicit_module, library_threads

CLASSES = {"bm25": "BM25Recommender", "cosine": "CosineRecommender"}


class ItemKNN(Fitted):
    """Ranks items by the sum of their similarities to the history's items, computed by the library implicit.

    Args:
        similarity: weighting of shared users.
        neighbours: K, the number of most similar items kept per item, at least 1.
    """

    depends_on_seed = False

    def __init__(self, *, similarity: Literal["bm25", "cosine"] = "bm25", neighbours: int = 100) -> None:
        super().__init__()
        if neighbours < 1:
            raise ValueError(f"neighbours = {neighbours}: at least 1 is needed")
        self.library = implicit_module("nearest_neighbours", "item_knn")
        self.library_warning = implicit_module("utils", "item_knn").ParameterWarning
        self.similarity, self.neighbours = similarity, neighbours
        self.similar = SparseRows()

    def fit(self, split: Split) -> None:
        """Compute the nearest neighbours of each item."""
        with library_threads() as threads, warnings.catch_warnings():
            warnings.simplefilter("ignore", self.library_warning)  # about a conversion that the library itself requests
            model = getattr(self.library, CLASSES[self.similarity])(K=self.neighbours, num_threads=threads)
            model.fit(user_items(split), show_progress=False)
        self.similar.fill(model.similarity)

    def scores(self, states: Tensor) -> Tensor:
        """Sums of similarities to the history's items: (Q, N+1)."""
        return self.similar.weighted_sum(states, torch.ones_like(states).float())
