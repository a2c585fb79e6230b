"""Depthwise 3-D convolution with fast training on CPUs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from microlens.encoders.video.depthwise_gradients import Stride, depthwise_input_gradient, depthwise_weight_gradient


class DepthwiseConv3d(nn.Conv3d):
    """A 3-D convolution with one filter per channel and "same" padding, with fast gradients on the CPU.

    Weights and results are those of `nn.Conv3d(channels, channels, kernel_size, groups=channels, ...)`. PyTorch's CPU
    gradients of that layer are ten times slower than its forward pass, so they are computed from faster convolutions on
    the CPU; on other devices nothing changes.
    """

    def __init__(
        self, channels: int, kernel_size: tuple[int, int, int], *, spatial_stride: int = 1, temporal_stride: int = 1
    ) -> None:
        super().__init__(
            channels,
            channels,
            kernel_size,
            stride=(temporal_stride, spatial_stride, spatial_stride),
            padding=(kernel_size[0] // 2, kernel_size[1] // 2, kernel_size[2] // 2),
            groups=channels,
            bias=False,
        )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name nn.Conv3d gives it
        """Map (M, C, F, H, W) to the same with F, H and W divided by their strides, rounded up."""
        if input.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            filtered: Tensor = _DepthwiseOnCPU.apply(input, self.weight, self.stride)  # type: ignore[no-untyped-call]
            return filtered
        return super().forward(input)


class _DepthwiseOnCPU(torch.autograd.Function):
    """Depthwise conv3d with gradients computed by forward conv3d and conv2d weight gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Stride) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last_3d)
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        padding = [size // 2 for size in weight.shape[2:]]
        return functional.conv3d(x, weight, None, stride, padding, 1, weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last_3d)
        x, weight = x.to(grad.dtype), weight.to(grad.dtype)  # they differ under autocast
        needs_x, needs_weight, _ = ctx.needs_input_grad
        grad_x = depthwise_input_gradient(grad, weight, ctx.stride, x.shape) if needs_x else None
        grad_weight = depthwise_weight_gradient(grad, x, weight, ctx.stride) if needs_weight else None
        return grad_x, grad_weight, None
