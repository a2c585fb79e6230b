"""Half precision on CPUs: convolutions with wrong gradients, and processors on which it is slow."""

import logging
import time
from functools import cache

import torch
from torch import Tensor, nn

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


def warn_where_half_precision_is_slow(setting: str, half: torch.dtype) -> None:
    """Log a warning if ``setting``, which makes the CPU compute in ``half``, is slower than float32."""
    times = _times_slower(half)
    if times > CLEARLY_SLOWER:
        name = str(half).removeprefix("torch.")
        logging.getLogger("microlens").warning(
            f"{setting} makes training slower on this processor: a matrix product in {name} takes {times:.0f} times as "
            "long as in float32 here. Leave the setting out."
        )


@cache
def _times_slower(half: torch.dtype) -> float:
    """The ratio of the times of a small matrix product in ``half`` and in float32, each the best of a few."""
    best = {}
    for dtype in (torch.float32, half):
        factor = torch.ones(256, 256, dtype=dtype)
        times = []
        for _ in range(4):  # the first one includes setup
            started = time.perf_counter()
            factor @ factor
            times.append(time.perf_counter() - started)
        best[dtype] = min(times)
    return best[half] / best[torch.float32]
