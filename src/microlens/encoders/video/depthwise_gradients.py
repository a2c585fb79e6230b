"""Gradients of depthwise convolutions over time as sums of two-dimensional convolutions, for CPUs."""

import torch
from torch import Tensor
from torch.nn import functional

Stride = tuple[int, int, int]  # over frames, height and width


def depthwise_input_gradient(grad: Tensor, weight: Tensor, stride: Stride, shape: torch.Size) -> Tensor:
    """A forward convolution of grad, upsampled with zeros by the strides, with the flipped kernel."""
    if max(stride) > 1:
        M, C, T, H, W = shape
        spread = grad.new_zeros(M, T, H, W, C).permute(0, 4, 1, 2, 3)
        spread[:, :, :: stride[0], :: stride[1], :: stride[2]] = grad
        grad = spread
    padding = [size // 2 for size in weight.shape[2:]]
    return functional.conv3d(grad, weight.flip(2, 3, 4), None, 1, padding, 1, weight.shape[0])


def depthwise_weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: Stride) -> Tensor:
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
