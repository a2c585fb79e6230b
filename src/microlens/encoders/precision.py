"""Half precision on CPUs: convolutions with wrong gradients, and processors on which it is slow."""

import logging
import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
CLEARLY_SLOWER = 1.5  # ratio to float32; above the noise that other load adds to a measured millisecond


class _InFloat32:
    """A convolution that computes in float32 on the CPU even under autocast."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name nn.Conv3d gives it
        """Filter (M, C, ...)."""
        if input.device.type != "cpu":  # "meta" when costs are counted
            return super().forward(input)  # type: ignore[misc,no-any-return]
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())  # type: ignore[misc,no-any-return]


def keep_convolutions_in_float32(network: nn.Module, half: torch.dtype) -> None:
    """Exclude from the CPU's autocast to ``half`` every convolution whose gradients would be wrong.

    Where PyTorch has kernels for ``half``, these are the convolutions over several frames: the bfloat16 weight gradient
    of PyTorch 2.13 is off by a factor or NaN, because it reads uninitialized memory. Where it has none, these are all
    convolutions: the fallback rounds the weight gradient after every picture of the batch, and the input gradient after
    every tap of the kernel. Matrix products are always correct.
    """
    all_of_them = _rounds_every_picture(half)
    for module in network.modules():
        over_time = isinstance(module, nn.Conv3d) and module.kernel_size[0] > 1
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and (over_time or all_of_them):
            kind = type(module)
            if not issubclass(kind, _InFloat32):  # keeps the layer and its parameter names
                module.__class__ = type(kind.__name__, (_InFloat32, kind), {"__doc__": kind.__doc__})


@cache
def _rounds_every_picture(half: torch.dtype) -> bool:
    """True if a weight gradient, the sum of 4,096 ones, stops growing because ``half`` cannot represent n + 1."""
    convolution = nn.Conv2d(1, 1, 1, bias=False)
    with torch.enable_grad(), torch.autocast("cpu", half):
        total = convolution(torch.ones(4096, 1, 1, 1)).sum()
    (gradient,) = torch.autograd.grad(total, convolution.weight)
    return bool(gradient != 4096)


def warn_where_half_precision_is_slow(setting: str, half: torch.dtype, model: nn.Module) -> None:
    """Log a warning if ``setting``, by which the CPU computes ``model`` in ``half``, is slower than float32 here."""
    convolves = any(
        isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and not isinstance(module, _InFloat32)
        for module in model.modules()
    )
    ratios = {"a matrix product": times_slower(half)}
    if convolves:
        ratios["a convolution"] = times_slower(half, convolution=True)
    slow = {operation: ratio for operation, ratio in ratios.items() if ratio > CLEARLY_SLOWER}
    if slow:
        name = str(half).removeprefix("torch.")
        listed = " and ".join(f"{operation} takes {_rounded(ratio)} times" for operation, ratio in slow.items())
        logging.getLogger("microlens").warning(
            f"{setting} is slow on this processor: {listed} as long in {name} as in float32. "
            'Set train.precision = "fp32".'
        )


def _rounded(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


@cache
def times_slower(half: torch.dtype, *, convolution: bool = False) -> float:
    """The time of a small matrix product, or convolution, in ``half`` over that in float32; below 1 where it pays.

    Each time is the best of a few. The measurement takes at most some tenths of a second, once per process.
    """
    best = {}
    for dtype in (torch.float32, half):
        work = _convolution(dtype) if convolution else _matrix_product(dtype)
        times = []
        for _ in range(4):  # the first one includes setup
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        best[dtype] = min(times)
    return best[half] / best[torch.float32]


def _matrix_product(dtype: torch.dtype) -> Callable[[], Tensor]:
    factor = torch.ones(256, 256, dtype=dtype)
    return lambda: factor @ factor


def _convolution(dtype: torch.dtype) -> Callable[[], Tensor]:
    pictures = torch.ones(8, 64, 14, 14, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.ones(64, 64, 3, 3, dtype=dtype)
    return lambda: functional.conv2d(pictures, weight)
