"""SlowFast video networks, with 50 and 101 layers.

Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019, arXiv 1812.03982. Parameter names are
PyTorchVideo 0.1.5's, see :mod:`microlens.encoders.video.resnet`. Unlike there, the input is a single clip, from which
the network selects the frames of both pathways, and the input is not modified.
"""

import torch
from torch import Tensor, nn

from microlens.encoders.trunk import Hidden, Stage, channels_last_on_cpu
from microlens.encoders.video.network import VideoNetwork, zoo
from microlens.encoders.video.resnet import (
    DEPTHS_50,
    DEPTHS_101,
    HALVE_PICTURES,
    KEEP,
    STAGE_WIDTHS,
    STEM_WIDTH,
    Head,
    ResidualStage,
    ResidualTrunk,
    Stem,
    TemporalKernels,
)

FRAME_RATIO = 4  # frames of the fast pathway per frame of the slow one
WIDTH_RATIO = 8  # channels of the slow pathway per channel of the fast one
FUSION_RATIO = 2  # channels added to the slow pathway per channel of the fast one
STRIDES = (KEEP, HALVE_PICTURES, HALVE_PICTURES, HALVE_PICTURES)


class SlowFast(ResidualTrunk):
    """Two parallel residual networks: a slow pathway over few frames, and a thin fast one over all that feeds it.

    Subclasses define the ``depths`` of the stages and the temporal kernel sizes of the bottlenecks of both pathways and
    of the convolution from the fast to the slow pathway.
    """

    feature_dim = STAGE_WIDTHS[-1] + STAGE_WIDTHS[-1] // WIDTH_RATIO
    depths: tuple[int, ...]
    slow_frames: TemporalKernels
    fast_frames: TemporalKernels
    fusion_frames: int

    def __init__(self) -> None:
        super().__init__()
        slow = Stem(STEM_WIDTH, frames=1, pools=True)
        fast = Stem(STEM_WIDTH // WIDTH_RATIO, frames=5, pools=True)
        blocks: list[nn.Module] = [_Pathways(slow, fast, _FastToSlow(STEM_WIDTH, self.fusion_frames))]
        blocks += [self._stage(index) for index in range(len(STAGE_WIDTHS))]
        pool = nn.Identity()  # has no parameters, but takes up a number in the head's name
        self.blocks = nn.ModuleList([*blocks, pool, Head(self.feature_dim, dropout=0.5)])
        self.reset_parameters()

    def _stage(self, index: int) -> "_Pathways":
        width_in, width_out = (STEM_WIDTH, *STAGE_WIDTHS)[index : index + 2]
        fused = width_in + width_in // WIDTH_RATIO * FUSION_RATIO
        depth, stride = self.depths[index], STRIDES[index]
        slow = ResidualStage(fused, width_out, depth=depth, stride=stride, frames=self.slow_frames[index])
        fast = ResidualStage(
            width_in // WIDTH_RATIO,
            width_out // WIDTH_RATIO,
            depth=depth,
            stride=stride,
            frames=self.fast_frames[index],
        )
        fuses = index < len(STAGE_WIDTHS) - 1
        return _Pathways(slow, fast, _FastToSlow(width_out, self.fusion_frames) if fuses else None)

    def begin(self, content: Tensor) -> Hidden:
        """The inputs of the slow and the fast pathway, from normalised clips (M, 3, F, H, W) with any F, H, W >= 1.

        The fast pathway gets all frames, the slow one ceil(F / 4) frames spread evenly from the first to the last.
        """
        frames = content.shape[2]
        slow = torch.linspace(0, frames - 1, -(-frames // FRAME_RATIO)).long().tolist()
        return channels_last_on_cpu(content[:, :, slow]), channels_last_on_cpu(content)

    def stages(self) -> list[Stage]:
        """The stem and the four stages, each with both pathways and the fusion after them."""
        return [_stage_of(block) for block in self.blocks[:-2]]

    def pool(self, hidden: Hidden) -> Tensor:
        """Average over the frames and pixels of each pathway: (M, 2048 + 256), non-negative."""
        return torch.cat([pathway.mean(dim=(2, 3, 4)) for pathway in hidden], dim=1)


class _Pathways(nn.Module):
    """One stage of both pathways, followed by the fusion from fast to slow (except in the last stage)."""

    def __init__(self, slow: nn.Module, fast: nn.Module, fusion: "_FastToSlow | None") -> None:
        super().__init__()
        self.multipathway_blocks = nn.ModuleList([slow, fast])
        self.multipathway_fusion = fusion

    def forward(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        slow, fast = self.multipathway_blocks[0](slow), self.multipathway_blocks[1](fast)
        if self.multipathway_fusion is not None:
            slow = torch.cat([slow, self.multipathway_fusion(fast)], dim=1)
        return slow, fast


class _FastToSlow(nn.Module):
    """A convolution from the fast to the slow pathway (of ``slow_width`` channels), with temporal stride 4."""

    def __init__(self, slow_width: int, frames: int) -> None:
        super().__init__()
        fast_width = slow_width // WIDTH_RATIO
        self.conv_fast_to_slow = nn.Conv3d(
            fast_width,
            fast_width * FUSION_RATIO,
            (frames, 1, 1),
            stride=(FRAME_RATIO, 1, 1),
            padding=(frames // 2, 0, 0),
            bias=False,
        )
        self.norm = nn.BatchNorm3d(fast_width * FUSION_RATIO)

    def forward(self, fast: Tensor) -> Tensor:
        """Map (M, C, F, H, W) to (M, 2C, ceil(F / 4), H, W)."""
        return torch.relu_(self.norm(self.conv_fast_to_slow(fast)))


def _stage_of(block: nn.Module) -> Stage:
    return Stage(lambda hidden: block(*hidden), (block,))


class SlowFastR50(SlowFast):
    """SlowFast 8x8 with 50 layers."""

    depths = DEPTHS_50
    slow_frames = ((1,), (1,), (3,), (3,))
    fast_frames = ((3,), (3,), (3,), (3,))
    fusion_frames = 7


class SlowFastR101(SlowFast):
    """SlowFast 16x8 with 101 layers; the third stage has temporal filters in its first six blocks only."""

    depths = DEPTHS_101
    slow_frames = ((1,), (1,), (3,) * 6 + (1,) * 17, (3,))
    fast_frames = ((3,), (3,), (3,) * 6 + (1,) * 17, (3,))
    fusion_frames = 5


SLOWFAST_NETWORKS = {
    "slowfast_r50": VideoNetwork(SlowFastR50, zoo("SLOWFAST_8x8_R50"), frames=32, size=256),
    "slowfast_r101": VideoNetwork(SlowFastR101, zoo("SLOWFAST_16x8_R101_50_50"), frames=64, size=256),
}
