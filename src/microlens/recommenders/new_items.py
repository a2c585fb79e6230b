"""How far the scores of new items can be raised before known items lose their places."""

import torch
from torch import Tensor


def new_ahead(scores: Tensor, targets: Tensor, is_new: Tensor, k: int) -> Tensor:
    """The offset from which new items push a known target out of the first ``k``, when added to all their scores.

    Letters: Q users, N items.

    Args:
        scores: (Q, N+1) scores, minus infinity for items that are no candidates.
        targets: (Q,) item numbers of known items.
        is_new: (N+1,) true for new items.
        k: length of the list.

    Returns:
        (Q,): a target is among the first k while the offset is below its value; minus infinity if it never is, infinity
        if there are not enough new items to push it out.
    """
    known = scores.masked_fill(is_new, -torch.inf)
    own = scores.gather(1, targets[:, None])  # (Q, 1)
    free = k - (known >= own).sum(1)  # (Q,) places behind the target; its own rank is counted, ties against it
    return own[:, 0] - _place(scores.masked_fill(~is_new, -torch.inf), free, k)


def new_reaches(scores: Tensor, targets: Tensor, is_new: Tensor, k: int) -> Tensor:
    """The offset above which a new target is among the first ``k``, when added to the scores of all new items.

    Arguments as in :func:`new_ahead`, with ``targets`` that are new.

    Returns:
        (Q,): a target is among the first k while the offset is above its value; infinity if it never is, minus infinity
        if it always is.
    """
    new = scores.masked_fill(~is_new, -torch.inf)
    own = scores.gather(1, targets[:, None])  # (Q, 1)
    free = k - (new >= own).sum(1)  # (Q,)
    return _place(scores.masked_fill(is_new, -torch.inf), free, k) - own[:, 0]


def _place(scores: Tensor, free: Tensor, k: int) -> Tensor:
    """The score (Q,) at place ``free`` + 1 of each row of ``scores``: infinity where ``free`` is below 0."""
    best = scores.topk(min(k, scores.shape[1]), 1).values  # (Q, k)
    place = best.gather(1, free.clamp(0, best.shape[1] - 1)[:, None])[:, 0]
    return torch.where(free < 0, torch.inf, place)
