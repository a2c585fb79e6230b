"""The softmax cross-entropy over the whole catalogue, without a matrix of all targets by all items."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from microlens.training.losses import REJECTED, upcast_half

CHUNK = 128  # targets at once: their scores of 20,000 items are 10 MB, which processors' caches hold


def full_softmax(states: Tensor, items: Tensor, positive: Tensor, rejected: Tensor) -> Tensor:
    r"""Softmax cross-entropy over the dot products with all items, summed over the targets,

    .. math:: \sum_q -\log \frac{e^{s_q v_+}}{e^{s_q v_+} + \sum_j e^{s_q v_j}}

    where j is any item but the positive and the rejected. The gradients are computed with the loss, a few targets at a
    time, so that no more than their scores are ever held; half precision is worked on in float32.

    Args:
        states: (Q, D) the state that each target is predicted from.
        items: (N, D) the vectors of all items.
        positive: (Q,) the row of each target in ``items``.
        rejected: (Q, H) rows that are no negatives (the user's own), N where there is none; the positive's own entry is
            ignored.

    Returns:
        The sum of the targets' losses, a scalar.
    """
    # What is padding stands for the positive, whose entry is ignored.
    columns = torch.where(rejected < len(items), rejected, positive[:, None])
    loss: Tensor = _FullSoftmax.apply(  # type: ignore[no-untyped-call]
        upcast_half(states), upcast_half(items), positive[:, None], columns
    )
    return loss


class _FullSoftmax(torch.autograd.Function):
    """The sum of the losses; one factor for all targets is all that its gradient can be scaled by."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, positive: Tensor, rejected: Tensor) -> Tensor:
        losses = states.new_empty(len(states), 1)
        of_states, of_items = torch.empty_like(states), torch.zeros_like(items)
        buffer = states.new_empty(min(CHUNK, len(states)), len(items))
        for start in range(0, len(states), CHUNK):
            chunk = slice(start, start + CHUNK)
            target, state = positive[chunk], states[chunk]
            # With out=, autocast leaves a product in the precision of its factors.
            scores = torch.mm(state, items.T, out=buffer[: len(state)])
            score = scores.gather(1, target)
            scores.scatter_(1, rejected[chunk], REJECTED).scatter_(1, target, score)
            highest = scores.amax(1, keepdim=True)
            exponentials = scores.sub_(highest).exp_()
            total = exponentials.sum(1, keepdim=True)
            losses[chunk] = total.log() + highest - score
            # The gradient of the scores but for the division by the total, which is cheaper after the products.
            gradient = exponentials.scatter_add_(1, target, -total)
            torch.mm(gradient, items, out=of_states[chunk]).div_(total)
            torch.addmm(of_items, gradient.T, state / total, out=of_items)  # PyTorch counts no flops of addmm_
        ctx.save_for_backward(of_states, of_items)
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None, None]:
        of_states, of_items = ctx.saved_tensors
        return upstream * of_states, upstream * of_items, None, None
