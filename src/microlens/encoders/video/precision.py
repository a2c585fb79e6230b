"""Convolutions that half precision would break."""

import torch
from torch import Tensor, nn


class Float32Conv3d(nn.Conv3d):
    """A 3-D convolution that computes in float32 on the CPU, whatever autocast says."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name nn.Conv3d gives it
        """Filter (M, C, F, H, W)."""
        if input.device.type != "cpu":  # "meta", where costs are counted
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


def keep_convolutions_over_time_in_float32(network: nn.Module) -> None:
    """Take every convolution over several frames out of autocast.

    On CPUs with bfloat16 instructions, PyTorch 2.13's bfloat16 weight gradient of such a convolution is off by a factor
    or not a number, because it reads memory that was never written; that of a convolution over one frame is right.
    """
    for module in network.modules():
        if type(module) is nn.Conv3d and module.kernel_size[0] > 1:
            module.__class__ = Float32Conv3d  # the same layer, found by the same names
