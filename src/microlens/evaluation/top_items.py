"""The items with the highest scores of each user."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from microlens.data.interactions import Int32, Int64
from microlens.evaluation.ranking import score_users
from microlens.recommenders.base import Recommender

Float32 = npt.NDArray[np.float32]


@torch.inference_mode()
def top_items(
    model: Recommender,
    catalogue: Tensor,
    users: Int64,
    histories: Callable[[slice], tuple[Int32, Int32]],
    k: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Int64, Float32]:
    """The ``k`` items with the highest scores for every user, among those the user has not seen.

    Arguments as :func:`score_users`.

    Returns:
        Item numbers (U, k), best first, ties by number, 0 where a user has no further candidate; and scores (U, k).

    Raises:
        InputError: the state of a user or a score is NaN or infinite.
    """
    items, scores = np.zeros((len(users), k), np.int64), np.full((len(users), k), -np.inf, np.float32)
    for scored in score_users(model, catalogue, users, histories, on_progress):
        best = best_of(scored.candidates(), k)
        width = best.indices.shape[1]
        items[scored.rows, :width] = best.indices.masked_fill(best.values == -torch.inf, 0).cpu().numpy()
        scores[scored.rows, :width] = best.values.cpu().numpy()
    return items, scores


class Best(NamedTuple):
    """The highest scores (B, k) of each row, in descending order, and the columns (B, k) they are from."""

    values: Tensor
    indices: Tensor


def best_of(scores: Tensor, k: int) -> Best:
    """The ``k`` highest of each row of ``scores`` (B, C), or all where C < k; ties by column.

    ``topk`` alone breaks ties in any order, and differently from one shape to the next.
    """
    found = scores.topk(min(k + 1, scores.shape[1]))
    indices = found.indices[:, :k].sort(1).values
    if found.values.shape[1] > k:
        edge, after = found.values[:, k - 1], found.values[:, k]
        tied = ((edge == after) & (after > -torch.inf)).nonzero()[:, 0]
        indices[tied] = _first_of_tied(scores[tied], edge[tied, None], k)
    values, order = scores.gather(1, indices).sort(dim=1, descending=True, stable=True)
    return Best(values, indices.gather(1, order))


def _first_of_tied(scores: Tensor, edge: Tensor, k: int) -> Tensor:
    """The columns (B, k) of the scores (B, C) above ``edge`` (B, 1), and of the first that equal it; ascending."""
    above, equal = scores > edge, scores == edge
    kept = above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdim=True)))
    return kept.nonzero()[:, 1].view(-1, k)
