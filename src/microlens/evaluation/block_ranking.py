"""Ranks by dot products, counted in blocks of items that stay in a processor's cache."""

import numpy as np
import torch
from torch import Tensor

from microlens.data.interactions import Int64

ITEMS_IN_BLOCK = 512  # with 1,024 users, 2 MB of scores; measured best of 256 to 2,048


@torch.inference_mode()
def ranks_in_blocks(states: Tensor, catalogue: Tensor, targets: Tensor, seen: Tensor) -> Tensor:
    """The ranks of :func:`microlens.evaluation.ranking.rank_of_target` for scores that are dot products, on a CPU.

    No row of scores is ever complete. A first walk over the blocks that hold targets finds the targets' scores, a
    second one counts the scores below; both multiply the same matrices, so that a score is the same number in both. The
    first is short where ``targets`` are close to each other.

    Args:
        states: (B, D), finite.
        catalogue: (N+1, D) item vectors, finite, padding first; see :func:`cannot_overflow`.
        targets: (B,) item numbers of the targets.
        seen: (B, H) items in the user's history, padded with 0; a target among them is still ranked.

    Returns:
        (B,) ranks from 1, int64.
    """
    items = catalogue[1:]
    scores = states.new_empty(len(states) * ITEMS_IN_BLOCK)

    def block(start: int) -> Tensor:
        vectors = items[start : start + ITEMS_IN_BLOCK]
        return torch.mm(states, vectors.T, out=scores[: len(states) * len(vectors)].view(len(states), len(vectors)))

    places = targets - 1
    of_target = states.new_empty(len(states))
    for start in torch.unique(places // ITEMS_IN_BLOCK).tolist():
        here = (places // ITEMS_IN_BLOCK == start).nonzero()[:, 0]
        of_target[here] = block(start * ITEMS_IN_BLOCK)[here, places[here] - start * ITEMS_IN_BLOCK]
    rows, known, ends = _seen_by_block(seen.numpy(), targets.numpy(), len(items))
    below = torch.zeros(len(states), dtype=torch.float64)
    for number, start in enumerate(range(0, len(items), ITEMS_IN_BLOCK)):
        is_below = block(start).lt_(of_target[:, None])  # ones and zeros, which sum faster than booleans
        below += is_below.sum(1)
        of_users = rows[ends[number] : ends[number + 1]]
        below.index_add_(
            0, of_users, is_below[of_users, known[ends[number] : ends[number + 1]] - start].double(), alpha=-1
        )
    candidates = len(items) - torch.bincount(rows, minlength=len(states))
    return candidates - below.long()


def _seen_by_block(seen: Int64, targets: Int64, num_items: int) -> tuple[Tensor, Tensor, list[int]]:
    """Row (E,) and place (E,) of each distinct seen item that is not the target, by place; and where blocks begin."""
    rows, columns = np.nonzero((seen > 0) & (seen != targets[:, None]))
    pairs = np.unique((seen[rows, columns] - 1) * len(seen) + rows)
    begins = np.arange(0, num_items + ITEMS_IN_BLOCK, ITEMS_IN_BLOCK) * len(seen)
    ends = np.searchsorted(pairs, begins).tolist()
    return torch.from_numpy(pairs % len(seen)), torch.from_numpy(pairs // len(seen)), ends


def cannot_overflow(states: Tensor, catalogue: Tensor) -> bool:
    """True if no dot product of the states (B, D) and the vectors (N+1, D), both finite, can be infinite."""
    largest = states.abs().max().double() * catalogue.abs().max().double() * states.shape[1]
    return bool(largest < torch.finfo(states.dtype).max)
