"""Depthwise 3-D convolution with fast training on CPUs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

Stride = tuple[int, int, int]  # over frames, height and width


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
        grad_x = _depthwise_input_gradient(grad, weight, ctx.stride, x.shape) if needs_x else None
        grad_weight = _depthwise_weight_gradient(grad, x, weight, ctx.stride) if needs_weight else None
        return grad_x, grad_weight, None


def _depthwise_input_gradient(grad: Tensor, weight: Tensor, stride: Stride, shape: torch.Size) -> Tensor:
    """A forward convolution of grad, upsampled with zeros by the strides, with the flipped kernel."""
    if max(stride) > 1:
        M, C, T, H, W = shape
        spread = grad.new_zeros(M, T, H, W, C).permute(0, 4, 1, 2, 3)
        spread[:, :, :: stride[0], :: stride[1], :: stride[2]] = grad
        grad = spread
    padding = [size // 2 for size in weight.shape[2:]]
    return functional.conv3d(grad, weight.flip(2, 3, 4), None, 1, padding, 1, weight.shape[0])


def _depthwise_weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: Stride) -> Tensor:
    """One conv2d weight gradient per temporal tap, over the frames that the tap pairs."""
    kernel_t, kernel_h, kernel_w = weight.shape[2:]
    padding = [kernel_h // 2, kernel_w // 2]
    if min(grad.shape[3:]) <= 2:  # oneDNN has no fast kernel where every output touches the padding
        x = functional.pad(x, (padding[1], padding[1], padding[0], padding[0]))
        padding = [0, 0]
    taps = torch.zeros_like(weight)
    for tap in range(kernel_t):
        paired = _paired_frames(grad, x, tap - kernel_t // 2, stride[0])
        if paired is None:
            continue
        taps[:, :, tap] = torch.ops.aten.convolution_backward(
            *paired,
            weight[:, :, tap],
            None,
            stride[1:],
            padding,
            [1, 1],
            False,
            [0, 0],
            weight.shape[0],
            [False, True, False],
        )[1]
    return taps


def _paired_frames(grad: Tensor, x: Tensor, shift: int, stride: int) -> tuple[Tensor, Tensor] | None:
    """The frames t of grad for which frame `stride * t + shift` of x exists, and those frames: (N, C, H, W) each."""
    first = max(0, -(shift // stride))
    last = min(grad.shape[2] - 1, (x.shape[2] - 1 - shift) // stride)
    if last < first:
        return None
    partners = x[:, :, stride * first + shift : stride * last + shift + 1 : stride]
    return _as_pictures(grad[:, :, first : last + 1]), _as_pictures(partners)


def _as_pictures(clips: Tensor) -> Tensor:
    """Reshape (M, C, T, H, W) to (M * T, C, H, W) in channels-last layout."""
    return clips.permute(0, 2, 3, 4, 1).flatten(0, 1).permute(0, 3, 1, 2)
