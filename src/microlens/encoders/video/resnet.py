"""Residual video networks: C2D, I3D and Slow with 50 layers, and the blocks that they share with related networks.

C2D is Wang et al., "Non-local Neural Networks", CVPR 2018, arXiv 1711.07971, without its non-local blocks; I3D is
Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, arXiv 1705.07750, on a residual network; Slow is
the slow pathway of Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019, arXiv 1812.03982.
Parameter and buffer names, shapes and order are those of PyTorchVideo 0.1.5, so that its Kinetics-400 checkpoints load
strictly. Two intentional differences: the head averages over any number of frames and pixels, and the classifier
returns logits, not probabilities.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from microlens.encoders.trunk import Hidden, Stage, Trunk, channels_last_on_cpu, one_tensor_stage
from microlens.encoders.video.network import VideoNetwork, zoo

Stride = tuple[int, int, int]  # over frames, height and width
TemporalKernels = tuple[tuple[int, ...], ...]  # per stage, temporal kernel sizes that its blocks cycle through

DEPTHS_50 = (3, 4, 6, 3)
DEPTHS_101 = (3, 4, 23, 3)
STEM_WIDTH = 64
STAGE_WIDTHS = (256, 512, 1024, 2048)
BOTTLENECK_RATIO = 4
HALVE_PICTURES: Stride = (1, 2, 2)
KEEP: Stride = (1, 1, 1)
KINETICS_CLASSES = 400


def draw_weights(network: nn.Module) -> None:
    """Initialize random weights as PyTorchVideo: He normal by fan-out, and zero for the last norm of residual branches.

    That norm is identified by its name, ``norm_c``.
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
    """Base class of residual video networks: pixel statistics, initialization and classifier.

    ``blocks`` holds the stages under PyTorchVideo's numbers and ends with the head.
    """

    num_classes = KINETICS_CLASSES
    mean = (0.45, 0.45, 0.45)
    std = (0.225, 0.225, 0.225)
    blocks: nn.ModuleList

    def reset_parameters(self) -> None:
        """Initialize random weights as PyTorchVideo does."""
        draw_weights(self)

    def classify(self, features: Tensor) -> Tensor:
        """Kinetics-400 logits (M, 400) of pooled features."""
        logits: Tensor = self.blocks[-1](features)
        return logits

    def drop_classifier(self) -> None:
        """Remove the Kinetics classifier, which `features` does not use."""
        self.blocks[-1] = nn.Identity()


class VideoResNet(ResidualTrunk):
    """A residual network over one clip: stem, four stages of bottlenecks, and a head that averages and classifies.

    Subclasses define the ``depths`` of the stages, the temporal kernel sizes of the stem and of the first convolution
    of each bottleneck, the strides of the stages, and the convolution in the middle of a bottleneck.
    """

    feature_dim = STAGE_WIDTHS[-1]
    separates_frames = True
    depths: tuple[int, ...] = DEPTHS_50
    stem_frames: int = 1
    stem_pools: bool = True
    pairs_frames: bool = False  # max-pool pairs of frames after the first stage
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
        """Normalised clips (M, 3, F, H, W), with any H, W >= 1, and any F that :meth:`check_clip` accepts."""
        return (channels_last_on_cpu(content),)

    def stages(self) -> list[Stage]:
        """The stem and the four residual stages, the first one including the pooling of frames."""
        links = list(self.blocks[:-1])
        if self.pairs_frames:
            links[1:3] = [nn.Sequential(*links[1:3])]
        return [one_tensor_stage(link) for link in links]

    def pool(self, hidden: Hidden) -> Tensor:
        """Average over frames and pixels: (M, 2048), non-negative."""
        return hidden[0].mean(dim=(2, 3, 4))

    def pool_frames(self, hidden: Hidden) -> Tensor:
        """Average over pixels: (M, T, 2048)."""
        return hidden[0].mean(dim=(3, 4)).transpose(1, 2)

    def check_clip(self, frames: int, size: int) -> None:
        """Reject single frames if the network pools pairs of frames.

        Raises:
            ValueError: the clip is too short; the message says which clips are accepted.
        """
        if self.pairs_frames and frames < 2:
            raise ValueError(f"clips have {frames} frame; this network pools pairs of frames and needs at least 2.")


def spatial_convolution(width: int, stride: Stride) -> nn.Conv3d:
    """A 1 x 3 x 3 convolution over the pixels of each frame."""
    return nn.Conv3d(width, width, (1, 3, 3), stride=stride, padding=(0, 1, 1), bias=False)


class Stem(nn.Module):
    """A 7 x 7 convolution over ``frames`` frames with spatial stride 2, and 3 x 3 max-pooling if ``pools``."""

    def __init__(self, channels: int, *, frames: int, pools: bool) -> None:
        super().__init__()
        self.conv = nn.Conv3d(
            3, channels, (frames, 7, 7), stride=HALVE_PICTURES, padding=(frames // 2, 3, 3), bias=False
        )
        self.norm = nn.BatchNorm3d(channels)
        self.pool = nn.MaxPool3d((1, 3, 3), HALVE_PICTURES, (0, 1, 1)) if pools else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (M, 3, F, H, W) to (M, C, F, H / 4, W / 4), or H / 2 and W / 2 without pooling; rounded up."""
        pooled: Tensor = self.pool(torch.relu_(self.norm(self.conv(x))))
        return pooled


class Bottleneck(nn.Module):
    """A narrowing convolution over ``frames`` frames, the ``middle`` convolution and a widening one."""

    def __init__(self, channels_in: int, inner: int, channels_out: int, *, frames: int, middle: nn.Module) -> None:
        super().__init__()
        self.conv_a = nn.Conv3d(channels_in, inner, (frames, 1, 1), padding=(frames // 2, 0, 0), bias=False)
        self.norm_a = nn.BatchNorm3d(inner)
        self.conv_b = middle
        self.norm_b = nn.BatchNorm3d(inner)
        self.conv_c = nn.Conv3d(inner, channels_out, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (M, C, F, H, W) to the same with the output channels and the strides of ``middle``."""
        x = torch.relu_(self.norm_a(self.conv_a(x)))
        x = torch.relu_(self.norm_b(self.conv_b(x)))
        widened: Tensor = self.norm_c(self.conv_c(x))
        return widened


class ResidualBlock(nn.Module):
    """A bottleneck with a residual connection, projected where the shapes differ."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: Stride, branch: nn.Module) -> None:
        super().__init__()
        projects = channels_in != channels_out or stride != KEEP
        self.branch1_conv = nn.Conv3d(channels_in, channels_out, 1, stride=stride, bias=False) if projects else None
        self.branch1_norm = nn.BatchNorm3d(channels_out) if projects else None
        self.branch2 = branch

    def forward(self, x: Tensor) -> Tensor:
        """Map (M, C, F, H, W) to the same with the output channels and the strides."""
        shortcut = x
        if self.branch1_conv is not None and self.branch1_norm is not None:
            shortcut = self.branch1_norm(self.branch1_conv(x))
        return torch.relu_(self.branch2(x).add_(shortcut))


class ResidualStage(nn.Module):
    """``depth`` residual blocks; the first one has the stride.

    Args:
        channels_in: input channels.
        channels_out: output channels; bottlenecks have a quarter of them inside.
        depth: number of blocks.
        stride: stride of the first block.
        frames: temporal kernel sizes of the blocks' first convolutions; the blocks cycle through them.
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
        """Apply the blocks in order."""
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
        """Map (M, D) to logits (M, 400)."""
        logits: Tensor = self.proj(self.dropout(features))
        return logits


class C2D(VideoResNet):
    """C2D-50: frames are filtered separately and mixed only by max-pooling pairs; an odd last frame is dropped."""

    pairs_frames = True


class I3D(VideoResNet):
    """I3D-50: temporal filters in the stem and in all or every second bottleneck, and max-pooling of frame pairs."""

    paper_top = 2
    stem_frames = 5
    pairs_frames = True
    bottleneck_frames = ((3,), (3, 1), (3, 1), (1, 3))


class Slow(VideoResNet):
    """Slow-50: temporal filters in the last two stages only, and no pooling of frames."""

    bottleneck_frames = ((1,), (1,), (3,), (3,))


RESNET_NETWORKS = {
    "c2d_r50": VideoNetwork(C2D, zoo("C2D_8x8_R50"), frames=8, size=256),
    "i3d_r50": VideoNetwork(I3D, zoo("I3D_8x8_R50"), frames=8, size=256),
    "slow_r50": VideoNetwork(Slow, zoo("SLOW_8x8_R50"), frames=8, size=256),
}
