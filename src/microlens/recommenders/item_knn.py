"""Nearest neighbours among items, by the users they share."""

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
    """Ranks items by the sum of their similarities to the items of the history, of the library implicit.

    Args:
        similarity: of two items, as the library weighs the users they share.
        neighbours: K, how many most similar items each item has; at least 1.
    """

    def __init__(self, *, similarity: Literal["bm25", "cosine"] = "bm25", neighbours: int = 100) -> None:
        super().__init__()
        if neighbours < 1:
            raise ValueError(f"neighbours = {neighbours}: at least 1 is needed")
        self.library = implicit_module("nearest_neighbours", "item_knn")
        self.library_warning = implicit_module("utils", "item_knn").ParameterWarning
        self.similarity, self.neighbours = similarity, neighbours
        self.similar = SparseRows()

    def fit(self, split: Split) -> None:
        """Find every item's neighbours."""
        with library_threads() as threads, warnings.catch_warnings():
            warnings.simplefilter("ignore", self.library_warning)  # of a conversion that the library itself asks for
            model = getattr(self.library, CLASSES[self.similarity])(K=self.neighbours, num_threads=threads)
            model.fit(user_items(split), show_progress=False)
        self.similar.fill(model.similarity)

    def scores(self, states: Tensor) -> Tensor:
        """Sums of similarities."""
        return self.similar.weighted_sum(states, torch.ones_like(states).float())
