"""Depthwise 3-D convolution that is fast to train on a CPU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class DepthwiseConv3d(nn.Conv3d):
    """A 3-D convolution with one filter per channel, temporal stride 1 and "same" padding, fast to train on the CPU.

    It is `nn.Conv3d(channels, channels, kernel_size, groups=channels, ...)` in weights and results. PyTorch's CPU
    gradients of that layer are ten times slower than its forward pass, so on the CPU they are worked out from faster
    convolutions; elsewhere nothing changes.
    """

    def __init__(self, channels: int, kernel_size: tuple[int, int, int], *, spatial_stride: int = 1) -> None:
        super().__init__(
            channels,
            channels,
            kernel_size,
            stride=(1, spatial_stride, spatial_stride),
            padding=(kernel_size[0] // 2, kernel_size[1] // 2, kernel_size[2] // 2),
            groups=channels,
            bias=False,
        )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name nn.Conv3d gives it
        """Filter (M, C, F, H, W) into (M, C, F, ceil(H / stride), ceil(W / stride))."""
        if input.device.type == "cpu" and torch.is_grad_enabled():
            filtered: Tensor = _DepthwiseOnCPU.apply(input, self.weight, self.stride[1])  # type: ignore[no-untyped-call]
            return filtered
        return super().forward(input)


class _DepthwiseOnCPU(torch.autograd.Function):
    """Depthwise conv3d whose gradients are made of forward conv3d and of conv2d weight gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last_3d)
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        padding = [size // 2 for size in weight.shape[2:]]
        return functional.conv3d(x, weight, None, (1, stride, stride), padding, 1, weight.shape[0])

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


def _depthwise_input_gradient(grad: Tensor, weight: Tensor, stride: int, shape: torch.Size) -> Tensor:
    """The gradient with the kernel flipped: a forward convolution of grad, spread out with zeros by the stride."""
    if stride > 1:
        M, C, T, H, W = shape
        spread = grad.new_zeros(M, T, H, W, C).permute(0, 4, 1, 2, 3)
        spread[..., ::stride, ::stride] = grad
        grad = spread
    padding = [size // 2 for size in weight.shape[2:]]
    return functional.conv3d(grad, weight.flip(2, 3, 4), None, 1, padding, 1, weight.shape[0])


def _depthwise_weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """One conv2d weight gradient for each temporal tap, over the frames that the tap pairs."""
    T = x.shape[2]
    kernel_t, kernel_h, kernel_w = weight.shape[2:]
    padding = [kernel_h // 2, kernel_w // 2]
    frames = x.permute(0, 2, 3, 4, 1).flatten(0, 1)  # (M * T, H, W, C)
    if min(grad.shape[3:]) <= 2:  # oneDNN has no fast kernel where every output touches the padding
        frames = functional.pad(frames, (0, 0, padding[1], padding[1], padding[0], padding[0]))
        padding = [0, 0]
    taps = torch.zeros_like(weight)
    for tap in range(kernel_t):
        shift = tap - kernel_t // 2
        if abs(shift) >= T:
            continue
        grad_frames = _without_partnerless_frames(grad.permute(0, 2, 3, 4, 1), shift).flatten(0, 1)
        paired = slice(max(-shift, 0), len(frames) - max(shift, 0))
        partners = slice(max(shift, 0), len(frames) - max(-shift, 0))
        taps[:, :, tap] = torch.ops.aten.convolution_backward(
            grad_frames[paired].permute(0, 3, 1, 2),
            frames[partners].permute(0, 3, 1, 2),
            weight[:, :, tap],
            None,
            [stride, stride],
            padding,
            [1, 1],
            False,
            [0, 0],
            weight.shape[0],
            [False, True, False],
        )[1]
    return taps


def _without_partnerless_frames(grads: Tensor, shift: int) -> Tensor:
    """Zero the frames of (M, T, H, W, C) whose partner `shift` frames later lies outside their own clip."""
    if shift == 0:
        return grads
    grads = grads.clone()
    if shift > 0:
        grads[:, -shift:] = 0
    else:
        grads[:, :-shift] = 0
    return grads
