"""Losses: pure functions of logits, the positive's column and masks."""

import torch
from torch import Tensor
from torch.nn import functional

REJECTED = -1e4  # what a rejected column scores; a finite number keeps half precision free of NaN


def in_batch_softmax(logits: Tensor, positive: Tensor, log_q: Tensor, log_count: Tensor, rejected: Tensor) -> Tensor:
    r"""Softmax cross-entropy over the distinct items of a batch, corrected for popularity, one value a target.

    The MicroLens paper's loss ranks a target among *all* slots of a batch, repeats included,

    .. math:: -\log \frac{e^{s_+ - \log q_+}}{e^{s_+ - \log q_+} + \sum_j e^{s_j - \log q_j}}

    with q the share of an item in the train part. An item that fills k slots adds k equal terms, so each distinct item
    is scored once and its term is weighted by ``+ log k``; the positive counts once.

    Args:
        logits: (Q, M) score of every target's user state with every distinct item.
        positive: (Q,) the column of each target.
        log_q: (M,) log of each item's share of the train part.
        log_count: (M,) log of how often each item occurs in the batch.
        rejected: (Q, M) true where an item is no negative (the user's own); the positive's own entry is ignored.

    Returns:
        (Q,) the loss of each target.
    """
    rows = torch.arange(len(logits), device=logits.device)
    # Each new (Q, M) array is written in place: nothing before the last one is needed for the gradient.
    corrected = logits.float() + (log_count - log_q)
    corrected[rows, positive] -= log_count[positive]
    rejected[rows, positive] = False
    return functional.cross_entropy(corrected.masked_fill_(rejected, REJECTED), positive, reduction="none")


def log_popularity(train_counts: Tensor) -> Tensor:
    """Log of each item's share of the train part, (N+1,) counts to (N+1,) float32.

    Items that never occur in the train part never occur in a training batch either; they and padding get 0, as the
    original code gives padding.
    """
    share = train_counts.double() / train_counts.sum()
    return torch.where(train_counts > 0, share.log(), torch.zeros_like(share)).float()
