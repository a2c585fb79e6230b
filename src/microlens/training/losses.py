"""Losses: pure functions of logits, the positive's column and masks."""

import torch
from torch import Tensor
from torch.nn import functional

REJECTED = -1e4  # logit of a rejected column; finite, because infinity gives NaN in half precision


def in_batch_softmax(logits: Tensor, positive: Tensor, log_q: Tensor, log_count: Tensor, rejected: Tensor) -> Tensor:
    r"""Softmax cross-entropy over the distinct items of a batch with logQ correction, one value per target.

    The MicroLens paper's loss ranks a target among *all* slots of a batch, repeats included,

    .. math:: -\log \frac{e^{s_+ - \log q_+}}{e^{s_+ - \log q_+} + \sum_j e^{s_j - \log q_j}}

    where q is an item's share of the training interactions. An item that fills k slots adds k equal terms, so each
    distinct item is scored once and its logit gets ``+ log k``; the positive counts once.

    Args:
        logits: (Q, M) score of every target's user state with every distinct item.
        positive: (Q,) the column of each target.
        log_q: (M,) log of each item's share of the training interactions.
        log_count: (M,) log of the number of occurrences of each item in the batch.
        rejected: (Q, M) true where an item is not used as a negative (the user's own items); the positive's own entry
            is ignored. Modified in place.

    Returns:
        (Q,) the loss of each target.
    """
    rows = torch.arange(len(logits), device=logits.device)  # (Q,)
    # The (Q, M) array is modified in place: the gradient needs only its final values.
    corrected = logits.float() + (log_count - log_q)  # (Q, M)
    corrected[rows, positive] -= log_count[positive]
    rejected[rows, positive] = False
    return functional.cross_entropy(corrected.masked_fill_(rejected, REJECTED), positive, reduction="none")


def sampled_softmax(
    positive: Tensor, negatives: Tensor, log_q_positive: Tensor, log_q_negatives: Tensor, rejected: Tensor
) -> Tensor:
    r"""Softmax cross-entropy over each target and the negatives shared by the batch, with logQ correction.

    Each score is reduced by log q, the log of its item's sampling probability (Bengio and Senecal 2008; Jean et al.
    2015, https://arxiv.org/abs/1412.2007),

    .. math:: -\log \frac{e^{s_+ - \log q_+}}{e^{s_+ - \log q_+} + \sum_k e^{s_k - \log q_k}}

    Args:
        positive: (Q,) score of each target.
        negatives: (Q, K) scores of the sampled items, repeats included.
        log_q_positive: (Q,) log of the sampling probability of each target.
        log_q_negatives: (K,) log of the sampling probability of each sampled item.
        rejected: (Q, K) true where an item is not used as a negative (the user's own items, including the target).

    Returns:
        (Q,) the loss of each target.
    """
    corrected = (upcast_half(negatives) - log_q_negatives).masked_fill(rejected, REJECTED)  # (Q, K)
    logits = torch.cat([(upcast_half(positive) - log_q_positive)[:, None], corrected], 1)  # (Q, 1 + K)
    return functional.cross_entropy(logits, positive.new_zeros(len(positive), dtype=torch.long), reduction="none")


def bpr(positive: Tensor, negatives: Tensor) -> Tensor:
    r"""Bayesian personalised ranking: mean over k of :math:`-\log \sigma(s_+ - s_k)` (Rendle et al. 2009).

    Args:
        positive: (Q,) score of each target.
        negatives: (Q, K) scores of the items sampled for each target.

    Returns:
        (Q,) the loss of each target.
    """
    return functional.softplus(upcast_half(negatives) - upcast_half(positive)[:, None]).mean(1)


def bce(positive: Tensor, negatives: Tensor) -> Tensor:
    r"""Binary cross-entropy: :math:`-(\log \sigma(s_+) + \sum_k \log(1 - \sigma(s_k))) / (K + 1)`.

    Args:
        positive: (Q,) score of each target.
        negatives: (Q, K) scores of the items sampled for each target.

    Returns:
        (Q,) the loss of each target.
    """
    return _binary(positive, negatives, 1.0)


def gbce(positive: Tensor, negatives: Tensor, num_items: int, calibration: float) -> Tensor:
    r"""Generalised binary cross-entropy, which corrects for negative sampling (Petrov and Macdonald 2023).

    It is :func:`bce` with the positive's term :math:`\beta \log \sigma(s_+)`, where
    :math:`\beta = \alpha (t (1 - 1/\alpha) + 1/\alpha) = 1 - t (1 - \alpha)` and :math:`\alpha = K / (N - 1)`
    (gSASRec, https://arxiv.org/abs/2308.07192).

    Args:
        positive: (Q,) score of each target.
        negatives: (Q, K) scores of the items sampled for each target.
        num_items: N, the number of items of the catalogue.
        calibration: t, from 0 (:func:`bce`) to 1 (probabilities as if every item were a negative).

    Returns:
        (Q,) the loss of each target.
    """
    alpha = negatives.shape[1] / (num_items - 1)
    return _binary(positive, negatives, 1 - calibration * (1 - alpha))


def _binary(positive: Tensor, negatives: Tensor, positive_weight: float) -> Tensor:
    attracted = positive_weight * functional.softplus(-upcast_half(positive))  # (Q,); softplus(-s) is -log sigmoid(s)
    repelled = functional.softplus(upcast_half(negatives)).sum(1)  # (Q,)
    return (attracted + repelled) / (negatives.shape[1] + 1)


def upcast_half(scores: Tensor) -> Tensor:
    """Convert half precision to float32; return anything else unchanged."""
    return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores


def log_popularity(train_counts: Tensor) -> Tensor:
    """Log of each item's share of the training interactions: (N+1,) counts to (N+1,) float32.

    Items without training interactions never occur in a training batch; they and padding get 0, the original code's
    value for padding.
    """
    share = train_counts.double() / train_counts.sum()
    return torch.where(train_counts > 0, share.log(), torch.zeros_like(share)).float()
