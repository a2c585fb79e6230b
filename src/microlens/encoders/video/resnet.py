"""Residual networks over clips: C2D, I3D and Slow with 50 layers, and the blocks that their relatives share.

C2D is Wang et al., "Non-local Neural Networks", CVPR 2018, arXiv 1711.07971, without its non-local blocks; I3D is
Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, arXiv 1705.07750, on a residual network; Slow is
the slow pathway of Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019, arXiv 1812.03982.
Parameter and buffer names, shapes and order are those of PyTorchVideo 0.1.5, so that its Kinetics-400 checkpoints load
strictly. Two things differ from it on purpose: the head averages over whatever frames and pixels there are, and the
classifier returns logits, not probabilities.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from microlens.encoders.trunk import Hidden, Stage, Trunk, channels_last_on_cpu, one_tensor_stage
from microlens.encoders.video.network import VideoNetwork, zoo

Stride = tuple[int, int, int]  # over frames, height and width
TemporalKernels = tuple[tuple[int, ...], ...]  # for each stage, those of its blocks in turn, over and over

DEPTHS_50 = (3, 4, 6, 3)
DEPTHS_101 = (3, 4, 23, 3)
STEM_WIDTH = 64
STAGE_WIDTHS = (256, 512, 1024, 2048)
BOTTLENECK_RATIO = 4
HALVE_PICTURES: Stride = (1, 2, 2)
KEEP: Stride = (1, 1, 1)
KINETICS_CLASSES = 400


def draw_weights(network: nn.Module) -> None:
    """Random weights as PyTorchVideo draws them: He normal by fan-out, and the last norm of residual branches at zero.

    That norm is known by its name, ``norm_c``.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm3d):
            module.reset_parameters()
            if name.endswith(".norm_c"):
                nn.init.zeros_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


class ResidualTrunk(Trunk):
    """What the residual networks over clips have in common: their statistics, first weights and classifier.

    ``blocks`` holds the links of the chain under PyTorchVideo's numbers and ends in the head.
    """

    num_classes = KINETICS_CLASSES
    mean = (0.45, 0.45, 0.45)
    std = (0.225, 0.225, 0.225)
    blocks: nn.ModuleList

    def reset_parameters(self) -> None:
        """Draw new weights the way PyTorchVideo does."""
        draw_weights(self)

    def classify(self, features: Tensor) -> Tensor:
        """Kinetics-400 logits (M, 400) of pooled features."""
        logits: Tensor = self.blocks[-1](features)
        return logits

    def drop_classifier(self) -> None:
        """Give up the Kinetics classifier, which takes no part in `features`."""
        self.blocks[-1] = nn.Identity()


class VideoResNet(ResidualTrunk):
    """A residual network over one clip: stem, four stages of bottlenecks, and a head that averages and classifies.

    A subclass says how many ``depths`` its stages have, how many frames the stem and the first convolution of each
    bottleneck see, how the stages stride, and what the convolution in the middle of a bottleneck is.
    """

    feature_dim = STAGE_WIDTHS[-1]
    depths: tuple[int, ...] = DEPTHS_50
    stem_frames: int = 1
    stem_pools: bool = True
    pairs_frames: bool = False  # a maximum over each two frames follows the first stage
    bottleneck_frames: TemporalKernels = ((1,), (1,), (1,), (1,))
    strides: tuple[Stride, ...] = (KEEP, HALVE_PICTURES, HALVE_PICTURES, HALVE_PICTURES)
    dropout: float = 0.5

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [Stem(STEM_WIDTH, frames=self.stem_frames, pools=self.stem_pools)]
        width = STEM_WIDTH
        for index, stage_width in enumerate(STAGE_WIDTHS):
            blocks.append(
                ResidualStage(
                    width,
                    stage_width,
                    depth=self.depths[index],
                    stride=self.strides[index],
                    frames=self.bottleneck_frames[index],
                    middle=self.middle,
                )
            )
            if index == 0 and self.pairs_frames:
                blocks.append(nn.MaxPool3d((2, 1, 1)))
            width = stage_width
        self.blocks = nn.ModuleList([*blocks, Head(width, dropout=self.dropout)])
        self.reset_parameters()

    @staticmethod
    def middle(width: int, stride: Stride) -> nn.Module:
        """The convolution in the middle of a bottleneck."""
        return spatial_convolution(width, stride)

    def begin(self, content: Tensor) -> Hidden:
        """Normalised clips (M, 3, F, H, W); any H and W from 1 up, and any F that :meth:`check_clip` admits."""
        return (channels_last_on_cpu(content),)

    def stages(self) -> list[Stage]:
        """The stem and the four residual stages, the first with the pooling of frames behind it."""
        links = list(self.blocks[:-1])
        if self.pairs_frames:
            links[1:3] = [nn.Sequential(*links[1:3])]
        return [one_tensor_stage(link) for link in links]

    def pool(self, hidden: Hidden) -> Tensor:
        """Average over frames and pixels: (M, 2048), non-negative."""
        return hidden[0].mean(dim=(2, 3, 4))

    def check_clip(self, frames: int, size: int) -> None:
        """Refuse a single frame where frames are pooled two by two.

        Raises:
            ValueError: says which clips are accepted.
        """
        if self.pairs_frames and frames < 2:
            raise ValueError(f"clips have {frames} frame; this network pools frames two by two and needs at least 2.")


def spatial_convolution(width: int, stride: Stride) -> nn.Conv3d:
    """3 x 3 pixels of each frame."""
    return nn.Conv3d(width, width, (1, 3, 3), stride=stride, padding=(0, 1, 1), bias=False)


class Stem(nn.Module):
    """7 x 7 pixels of ``frames`` frames, at every second pixel, and a maximum over 3 x 3 pixels if it ``pools``."""

    def __init__(self, channels: int, *, frames: int, pools: bool) -> None:
        super().__init__()
        self.conv = nn.Conv3d(
            3, channels, (frames, 7, 7), stride=HALVE_PICTURES, padding=(frames // 2, 3, 3), bias=False
        )
        self.norm = nn.BatchNorm3d(channels)
        self.pool = nn.MaxPool3d((1, 3, 3), HALVE_PICTURES, (0, 1, 1)) if pools else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(M, 3, F, H, W) to (M, C, F, H / 4, W / 4), or half of H and W without pooling; sizes are rounded up."""
        pooled: Tensor = self.pool(torch.relu_(self.norm(self.conv(x))))
        return pooled


class Bottleneck(nn.Module):
    """Narrow by a convolution over ``frames`` frames, filter by ``middle``, widen."""

    def __init__(self, channels_in: int, inner: int, channels_out: int, *, frames: int, middle: nn.Module) -> None:
        super().__init__()
        self.conv_a = nn.Conv3d(channels_in, inner, (frames, 1, 1), padding=(frames // 2, 0, 0), bias=False)
        self.norm_a = nn.BatchNorm3d(inner)
        self.conv_b = middle
        self.norm_b = nn.BatchNorm3d(inner)
        self.conv_c = nn.Conv3d(inner, channels_out, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """(M, C, F, H, W) to the same with the widened channels and the strides of the middle."""
        x = torch.relu_(self.norm_a(self.conv_a(x)))
        x = torch.relu_(self.norm_b(self.conv_b(x)))
        widened: Tensor = self.norm_c(self.conv_c(x))
        return widened


class ResidualBlock(nn.Module):
    """A bottleneck around which the input passes, projected where the shapes differ."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: Stride, branch: nn.Module) -> None:
        super().__init__()
        projects = channels_in != channels_out or stride != KEEP
        self.branch1_conv = nn.Conv3d(channels_in, channels_out, 1, stride=stride, bias=False) if projects else None
        self.branch1_norm = nn.BatchNorm3d(channels_out) if projects else None
        self.branch2 = branch

    def forward(self, x: Tensor) -> Tensor:
        """(M, C, F, H, W) to the same with the widened channels and the strides."""
        shortcut = x
        if self.branch1_conv is not None and self.branch1_norm is not None:
            shortcut = self.branch1_norm(self.branch1_conv(x))
        return torch.relu_(self.branch2(x).add_(shortcut))


class ResidualStage(nn.Module):
    """``depth`` residual blocks, of which the first strides.

    Args:
        channels_in: channels before.
        channels_out: channels after; inside a bottleneck there are a quarter of them.
        depth: how many blocks.
        stride: of the first block.
        frames: how many frames the first convolution of each block sees: of the blocks in turn, over and over.
        middle: makes the convolution in the middle of a block from its channels and stride.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        depth: int,
        stride: Stride,
        frames: Sequence[int],
        middle: Callable[[int, Stride], nn.Module] = spatial_convolution,
    ) -> None:
        super().__init__()
        inner = channels_out // BOTTLENECK_RATIO
        blocks = []
        for index in range(depth):
            width, block_stride = (channels_in, stride) if index == 0 else (channels_out, KEEP)
            seen = frames[index % len(frames)]
            branch = Bottleneck(width, inner, channels_out, frames=seen, middle=middle(inner, block_stride))
            blocks.append(ResidualBlock(width, channels_out, stride=block_stride, branch=branch))
        self.res_blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """All blocks in turn."""
        for block in self.res_blocks:
            x = block(x)
        return x


class Head(nn.Module):
    """The Kinetics-400 classifier over pooled features, with dropout before it."""

    def __init__(self, features: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.proj = nn.Linear(features, KINETICS_CLASSES)

    def forward(self, features: Tensor) -> Tensor:
        """(M, D) to logits (M, 400)."""
        logits: Tensor = self.proj(self.dropout(features))
        return logits


class C2D(VideoResNet):
    """Frames are filtered one by one; only a maximum over pairs of them mixes them. An odd last frame is not seen."""

    pairs_frames = True


class I3D(VideoResNet):
    """Filters over frames in the stem and in every or every second bottleneck, and a maximum over pairs of frames."""

    paper_top = 2
    stem_frames = 5
    pairs_frames = True
    bottleneck_frames = ((3,), (3, 1), (3, 1), (1, 3))


class Slow(VideoResNet):
    """Filters over frames in the last two stages only, and no pooling of frames."""

    bottleneck_frames = ((1,), (1,), (3,), (3,))


RESNET_NETWORKS = {
    "c2d_r50": VideoNetwork(C2D, zoo("C2D_8x8_R50"), frames=8, size=256),
    "i3d_r50": VideoNetwork(I3D, zoo("I3D_8x8_R50"), frames=8, size=256),
    "slow_r50": VideoNetwork(Slow, zoo("SLOW_8x8_R50"), frames=8, size=256),
}
