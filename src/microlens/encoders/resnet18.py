"""ResNet-18 over covers.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385. Names, shapes and order of
parameters and buffers are those of torchvision's `resnet18`, so that its ImageNet weights load.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from microlens.encoders.basic_blocks import STAGE_WIDTHS, BasicBlockNetwork
from microlens.encoders.trunk import Hidden, Stage, channels_last_on_cpu, one_tensor_stage
from microlens.encoders.weights import Official

IMAGENET_CLASSES = 1000
# torchvision's current URL of the weights; the paper names an older one, resnet18-5c106cde.pth.
RESNET18_WEIGHTS = Official("https://download.pytorch.org/models/resnet18-f37072fd.pth", "f37072fd")


class ResNet18(BasicBlockNetwork):
    """ResNet-18 (He et al. 2016): stem, four stages of two residual blocks, and the ImageNet classifier."""

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    num_classes = IMAGENET_CLASSES
    paper_top = 1
    convolution = nn.Conv2d

    def __init__(self) -> None:
        super().__init__()
        width = STAGE_WIDTHS[0]
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.add_stages(_ResidualBlock)
        for module in self.modules():  # torchvision's initialization
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def begin(self, content: Tensor) -> Hidden:
        """Normalised pictures (M, 3, H, W), with any H, W >= 1."""
        return (channels_last_on_cpu(content),)

    def stages(self) -> list[Stage]:
        """The stem and the four residual stages."""
        stem = Stage(self._stem, (self.conv1, self.bn1))
        return [stem, *(one_tensor_stage(layer) for layer in (self.layer1, self.layer2, self.layer3, self.layer4))]

    def _stem(self, hidden: Hidden) -> Hidden:
        filtered = torch.relu_(self.bn1(self.conv1(hidden[0])))
        return (functional.max_pool2d(filtered, 3, stride=2, padding=1),)


class _ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        widens = channels_in != channels_out
        stride = 2 if widens else 1
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False), nn.BatchNorm2d(channels_out)
            )
            if widens
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu_(self.bn1(self.conv1(x)))
        return torch.relu_(self.bn2(self.conv2(x)).add_(shortcut))
