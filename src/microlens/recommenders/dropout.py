"""Dropout whose masks cost little on a CPU."""

import torch
from torch import Tensor, nn

_LEVELS = 2**16


class Dropout(nn.Dropout):
    """:class:`torch.nn.Dropout` (Srivastava et al. 2014), in less than half the time on a CPU.

    PyTorch draws a random number for every element there; here a 64-bit number decides on four elements. The rate is
    rounded to a multiple of 2^-16, and kept elements are scaled by the rounded rate, so that the mean does not change.
    On other devices this is PyTorch's dropout.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name nn.Dropout gives it
        """Set elements to 0 at random and scale the others, in training; any shape."""
        if self.training and 0 < self.p < 1 and input.device.type == "cpu":
            return input * _mask(input, self.p)
        return super().forward(input)


def _mask(like: Tensor, rate: float) -> Tensor:
    """Independent elements of the shape and dtype of ``like``: 0 at the rate, otherwise 1 / (1 - rate)."""
    kept = max(1, round((1 - rate) * _LEVELS))
    if kept == _LEVELS:  # a rate that is rounded to 0; the comparison below would overflow
        return torch.ones_like(like)
    numbers = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    levels = numbers.view(torch.int16)[: like.numel()].view(like.shape)
    return (levels < kept - _LEVELS // 2).to(like.dtype).mul_(_LEVELS / kept)
