"""Softmax cross-entropy over the whole catalogue, without a (Q, N) matrix of all scores."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from microlens.training.losses import REJECTED, upcast_half

CHUNK = 128  # targets per chunk: their scores of 20,000 items take 10 MB, which fits processor caches
CHUNK_ON_GPU = 2048  # products large enough for a GPU; the scores of 100,000 items take 0.8 GB


def full_softmax(states: Tensor, items: Tensor, positive: Tensor, rejected: Tensor) -> Tensor:
    r"""Softmax cross-entropy over the dot products with all items, summed over the targets:

    .. math:: \sum_q -\log \frac{e^{s_q v_+}}{e^{s_q v_+} + \sum_j e^{s_q v_j}}

    where j runs over all items but the positive and the rejected. Gradients are computed together with the loss, for
    a chunk of targets at a time, so that only the scores of one chunk are in memory. Half precision is computed in
    float32.

    Args:
        states: (Q, D) the state that each target is predicted from.
        items: (N, D) the vectors of all items.
        positive: (Q,) the row of each target in ``items``.
        rejected: (Q, H) rows that are not used as negatives (the user's own items), padded with N; the positive's own
            entry is ignored.

    Returns:
        The sum of the targets' losses, a scalar.
    """
    # Replace padding by the positive, whose entry is ignored.
    columns = torch.where(rejected < len(items), rejected, positive[:, None])  # (Q, H)
    loss: Tensor = _FullSoftmax.apply(  # type: ignore[no-untyped-call]
        upcast_half(states), upcast_half(items), positive[:, None], columns
    )
    return loss


class _FullSoftmax(torch.autograd.Function):
    """The sum of the losses; ``forward`` also computes its gradient, which ``backward`` scales."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, positive: Tensor, rejected: Tensor) -> Tensor:
        losses = states.new_empty(len(states), 1)  # (Q, 1)
        of_states, of_items = torch.empty_like(states), torch.zeros_like(items)  # gradients: (Q, D), (N, D)
        size = CHUNK if states.device.type == "cpu" else CHUNK_ON_GPU
        buffer = states.new_empty(min(size, len(states)), len(items))  # (q, N), q targets of a chunk
        for start in range(0, len(states), size):
            chunk = slice(start, start + size)
            target, state = positive[chunk], states[chunk]  # (q, 1), (q, D)
            # With out=, autocast leaves a product in the precision of its factors.
            scores = torch.mm(state, items.T, out=buffer[: len(state)])  # (q, N)
            score = scores.gather(1, target)  # (q, 1)
            scores.scatter_(1, rejected[chunk], REJECTED).scatter_(1, target, score)
            highest = scores.amax(1, keepdim=True)  # (q, 1)
            exponentials = scores.sub_(highest).exp_()  # (q, N)
            total = exponentials.sum(1, keepdim=True)  # (q, 1)
            losses[chunk] = total.log() + highest - score
            # The gradient of the scores times the total; dividing after the matrix products is cheaper.
            gradient = exponentials.scatter_add_(1, target, -total)  # (q, N)
            torch.mm(gradient, items, out=of_states[chunk]).div_(total)
            torch.addmm(of_items, gradient.T, state / total, out=of_items)  # not addmm_: PyTorch counts no flops of it
        ctx.save_for_backward(of_states, of_items)
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None, None]:
        of_states, of_items = ctx.saved_tensors
        return upstream * of_states, upstream * of_items, None, None
