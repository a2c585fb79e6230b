"""X3D video networks: X3D-XS, -S, -M and -L.

Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition", CVPR 2020, arXiv 2004.04730. Parameter
and buffer names, shapes and order are those of PyTorchVideo 0.1.5, so that its Kinetics-400 checkpoints load strictly.
Two intentional differences: the head averages over any number of frames and pixels, so clips of any length and size are
accepted, and the classifier returns logits, not probabilities.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from microlens.encoders.trunk import Hidden, Stage, Trunk, channels_last_on_cpu, one_tensor_stage
from microlens.encoders.video.depthwise import DepthwiseConv3d
from microlens.encoders.video.network import VideoNetwork, zoo
from microlens.encoders.video.resnet import draw_weights

STEM_WIDTH = 24
STAGE_WIDTHS = (24, 48, 96, 192)
STAGE_BASE_DEPTHS = (1, 2, 5, 3)
BOTTLENECK_FACTOR = 2.25
SQUEEZE_RATIO = 1 / 16
HEAD_WIDTH = 2048
KINETICS_CLASSES = 400
HEAD_DROPOUT = 0.5


class X3D(Trunk):
    """X3D: stem, four residual stages, and a head with the Kinetics-400 classifier (Feichtenhofer 2020).

    Args:
        depth_factor: factor of the stages' base depths 1, 2, 5, 3; the products are rounded up.
    """

    feature_dim = HEAD_WIDTH
    num_classes = KINETICS_CLASSES
    softmax_in_head = True
    mean = (0.45, 0.45, 0.45)
    std = (0.225, 0.225, 0.225)

    def __init__(self, *, depth_factor: float) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        width = STEM_WIDTH
        for stage_width, base_depth in zip(STAGE_WIDTHS, STAGE_BASE_DEPTHS, strict=True):
            stages.append(_Stage(width, stage_width, depth=math.ceil(depth_factor * base_depth)))
            width = stage_width
        self.blocks = nn.ModuleList([_Stem(3, STEM_WIDTH), *stages, _Head(width)])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize random weights as PyTorchVideo does."""
        draw_weights(self)

    def begin(self, content: Tensor) -> Hidden:
        """Normalised clips (M, 3, F, H, W), with any F, H, W >= 1."""
        return (channels_last_on_cpu(content),)

    def stages(self) -> list[Stage]:
        """The stem and the four residual stages."""
        return [one_tensor_stage(block) for block in self.blocks[:-1]]

    def pool(self, hidden: Hidden) -> Tensor:
        """Widen, average and project: (M, 2048), non-negative."""
        pooled: Tensor = self._head.pool(hidden[0])
        return pooled.flatten(1)

    def classify(self, features: Tensor) -> Tensor:
        """Kinetics-400 logits (M, 400) of pooled features."""
        return self._head.classify(features)

    def drop_classifier(self) -> None:
        """Remove the Kinetics classifier, which `features` does not use."""
        self._head.proj = nn.Identity()

    @property
    def _head(self) -> "_Head":
        head = self.blocks[-1]
        assert isinstance(head, _Head)
        return head


def _pointwise(channels_in: int, channels_out: int, *, spatial_stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(channels_in, channels_out, 1, stride=(1, spatial_stride, spatial_stride), bias=False)


class _StemConv(nn.Module):
    """Spatial, then temporal convolution; the names are PyTorchVideo's, which calls the spatial one `conv_t`."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv_t = nn.Conv3d(channels_in, channels_out, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False)
        self.conv_xy = DepthwiseConv3d(channels_out, (5, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        filtered: Tensor = self.conv_xy(self.conv_t(x))
        return filtered


class _Stem(nn.Module):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = _StemConv(channels_in, channels_out)
        self.norm = nn.BatchNorm3d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.norm(self.conv(x)))


class _SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation: scale channels by a gate computed from their means (Hu et al. 2018, arXiv 1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _multiple_of_eight(channels * SQUEEZE_RATIO)
        self.block = nn.Sequential(
            nn.Conv3d(channels, squeezed, 1), nn.ReLU(inplace=True), nn.Conv3d(squeezed, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.block(x.mean(dim=(2, 3, 4), keepdim=True))
        return x * gate


def _multiple_of_eight(width: float) -> int:
    """Round to the nearest multiple of eight, at least 8, and never down by more than a tenth."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * width else rounded + 8


class _Bottleneck(nn.Module):
    """Widen with 1x1x1, filter with depthwise 3x3x3, narrow with 1x1x1."""

    def __init__(self, channels_in: int, channels_out: int, *, spatial_stride: int, squeeze: bool) -> None:
        super().__init__()
        inner = int(BOTTLENECK_FACTOR * channels_out)
        self.conv_a = _pointwise(channels_in, inner)
        self.norm_a = nn.BatchNorm3d(inner)
        self.conv_b = DepthwiseConv3d(inner, (3, 3, 3), spatial_stride=spatial_stride)
        self.norm_b = nn.Sequential(nn.BatchNorm3d(inner), _SqueezeExcitation(inner) if squeeze else nn.Identity())
        self.conv_c = _pointwise(inner, channels_out)
        self.norm_c = nn.BatchNorm3d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.norm_a(self.conv_a(x)))
        x = functional.silu(self.norm_b(self.conv_b(x)))
        narrowed: Tensor = self.norm_c(self.conv_c(x))
        return narrowed


class _ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, *, spatial_stride: int, squeeze: bool) -> None:
        super().__init__()
        widens = channels_in != channels_out
        strided = widens or spatial_stride > 1
        self.branch1_conv = _pointwise(channels_in, channels_out, spatial_stride=spatial_stride) if strided else None
        self.branch1_norm = nn.BatchNorm3d(channels_out) if widens else None
        self.branch2 = _Bottleneck(channels_in, channels_out, spatial_stride=spatial_stride, squeeze=squeeze)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if self.branch1_conv is not None:
            shortcut = self.branch1_conv(shortcut)
        if self.branch1_norm is not None:
            shortcut = self.branch1_norm(shortcut)
        return torch.relu_(self.branch2(x).add_(shortcut))


class _Stage(nn.Module):
    """Residual blocks; the first one halves the resolution, and every second one has squeeze-excitation."""

    def __init__(self, channels_in: int, channels_out: int, *, depth: int) -> None:
        super().__init__()
        widths: Sequence[int] = [channels_in] + [channels_out] * (depth - 1)
        self.res_blocks = nn.ModuleList(
            _ResidualBlock(width, channels_out, spatial_stride=2 if index == 0 else 1, squeeze=index % 2 == 0)
            for index, width in enumerate(widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.res_blocks:
            x = block(x)
        return x


class _ProjectedPool(nn.Module):
    """Widen, average over all frames and pixels, project."""

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        inner = int(BOTTLENECK_FACTOR * channels_in)
        self.pre_conv = _pointwise(channels_in, inner)
        self.pre_norm = nn.BatchNorm3d(inner)
        self.post_conv = _pointwise(inner, HEAD_WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.pre_norm(self.pre_conv(x)))
        return torch.relu_(self.post_conv(x.mean(dim=(2, 3, 4), keepdim=True)))


class _Head(nn.Module):
    def __init__(self, channels_in: int) -> None:
        super().__init__()
        self.pool = _ProjectedPool(channels_in)
        self.dropout = nn.Dropout(HEAD_DROPOUT)
        self.proj: nn.Module = nn.Linear(HEAD_WIDTH, KINETICS_CLASSES)

    def classify(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.proj(self.dropout(pooled))
        return logits


X3D_NETWORKS = {
    "x3d_xs": VideoNetwork(partial(X3D, depth_factor=2.2), zoo("X3D_XS"), frames=4, size=160),
    "x3d_s": VideoNetwork(partial(X3D, depth_factor=2.2), zoo("X3D_S"), frames=13, size=160),
    "x3d_m": VideoNetwork(partial(X3D, depth_factor=2.2), zoo("X3D_M"), frames=16, size=224),
    "x3d_l": VideoNetwork(partial(X3D, depth_factor=5.0), zoo("X3D_L"), frames=16, size=312),
}
