"""EASE^R (Steck 2019, arXiv 1905.03375): item-item weights in closed form."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from microlens.data.split import Split
from microlens.environment import available_memory
from microlens.errors import InputError
from microlens.recommenders.fitted import Fitted, recency_weights
from microlens.recommenders.ridge import add_gram, invert, scale_columns

MATRICES = 3  # N x N matrices in memory: one is solved in place, writing the checkpoint takes two more


class ItemWeights(Fitted):
    """Base class of recommenders whose scores are sums of the weights between items, in a matrix.

    Args:
        decay: weight of an item of the history relative to the next more recent one, in (0, 1].
    """

    depends_on_seed = False
    sizes = {"weights": ("items", "items")}  # noqa: RUF012
    weights: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("weights", torch.zeros(0, 0))

    def scores(self, states: Tensor) -> Tensor:
        """Weighted sums of the weight rows of the history's items: (Q, N+1)."""
        decayed = recency_weights(states, self.decay)  # (Q, L)
        return functional.embedding_bag(states, self.weights, mode="sum", per_sample_weights=decayed)


class EASE(ItemWeights):
    """A ridge regression of each item on all others with a zero diagonal, solved in closed form (Steck 2019).

    One N x N float32 matrix is filled, inverted and scaled in place, block by block. History items are weighted by
    recency if ``decay`` is below 1, which is not part of the paper.

    Args:
        regularization: lambda, above 0; the paper has 200 to 1000, by data set.
        decay: weight of an item relative to the next more recent one, in (0, 1].
    """

    revision = 2  # other defaults than in 0.2.0

    def __init__(self, *, regularization: float = 250.0, decay: float = 1.0) -> None:
        super().__init__(decay)
        if regularization <= 0 or not 0 < decay <= 1:
            raise ValueError(
                f"regularization = {regularization:g}, decay = {decay:g}: regularization must be above 0, and decay "
                "above 0 and at most 1"
            )
        self.regularization = regularization

    def fit(self, split: Split) -> None:
        """Compute the weights, (N+1, N+1).

        Raises:
            InputError: the matrix does not fit in memory.
        """
        size = split.num_items + 1
        check_memory(MATRICES * 4 * size**2, available_memory(), split.num_items)
        matrix = np.zeros((size, size), np.float32)
        matrix[np.arange(size), np.arange(size)] = self.regularization
        add_gram(matrix, split)
        invert(matrix)
        scale_columns(matrix)
        self.weights = torch.from_numpy(matrix).to(self.weights.device)


def check_memory(needed: int, available: int, num_items: int, name: str = "ease") -> None:
    """Check that ``needed`` bytes are available.

    Raises:
        InputError: more memory is needed than available.
    """
    if needed > available:
        raise InputError(
            f"model.name is '{name}', which needs {needed / 2**30:.1f} GiB of memory to solve and save the weights of "
            f"{num_items:,} x {num_items:,} items; {available / 2**30:.1f} GiB are available."
        )
