"""R3D-18, a ResNet-18 with 3-D convolutions.

Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018, arXiv 1711.11248. Names,
shapes and order of parameters and buffers are those of torchvision's `r3d_18`, so that its Kinetics-400 weights load.
"""

import torch
from torch import Tensor, nn

from microlens.encoders.basic_blocks import STAGE_WIDTHS, BasicBlockNetwork
from microlens.encoders.trunk import Hidden, Stage, channels_last_on_cpu, one_tensor_stage
from microlens.encoders.video.network import VideoNetwork
from microlens.encoders.weights import Official

KINETICS_CLASSES = 400


class R3D(BasicBlockNetwork):
    """R3D-18: stem, four stages of two residual blocks, and the Kinetics-400 classifier.

    The original code replaces the classifier by the projection, which corresponds to the head "features".
    """

    convolution = nn.Conv3d
    paper_top = 2
    num_classes = KINETICS_CLASSES
    mean = (0.43216, 0.394666, 0.37645)
    std = (0.22803, 0.22145, 0.216989)

    def __init__(self) -> None:
        super().__init__()
        width = STAGE_WIDTHS[0]
        self.stem = nn.Sequential(
            nn.Conv3d(3, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
        self.add_stages(_ResidualBlock)
        self._draw()

    def _draw(self) -> None:
        """Initialize random weights as torchvision."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def begin(self, content: Tensor) -> Hidden:
        """Normalised clips (M, 3, F, H, W), with any F, H, W >= 1."""
        return (channels_last_on_cpu(content),)

    def stages(self) -> list[Stage]:
        """The stem and the four residual stages."""
        return [one_tensor_stage(part) for part in (self.stem, self.layer1, self.layer2, self.layer3, self.layer4)]


class _ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        widens = channels_in != channels_out
        stride = 2 if widens else 1
        self.conv1 = nn.Sequential(
            nn.Conv3d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm3d(channels_out),
            nn.ReLU(inplace=True),
        )
        self.conv2 = nn.Sequential(
            nn.Conv3d(channels_out, channels_out, 3, padding=1, bias=False), nn.BatchNorm3d(channels_out)
        )
        self.downsample = (
            nn.Sequential(
                nn.Conv3d(channels_in, channels_out, 1, stride=stride, bias=False), nn.BatchNorm3d(channels_out)
            )
            if widens
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.relu_(self.conv2(self.conv1(x)).add_(shortcut))


R3D_NETWORKS = {
    "r3d_r18": VideoNetwork(
        R3D, Official("https://download.pytorch.org/models/r3d_18-b3b3357e.pth", "b3b3357e"), frames=16, size=112
    ),
}
