"""The video network R(2+1)D-50, which the MicroLens paper calls R3D-r50.

Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018, arXiv 1711.11248.
Parameter names are PyTorchVideo 0.1.5's, see :mod:`microlens.encoders.video.resnet`.
"""

import torch
from torch import Tensor, nn

from microlens.encoders.video.network import VideoNetwork, zoo
from microlens.encoders.video.resnet import HALVE_PICTURES, Stride, VideoResNet, spatial_convolution


class R2Plus1D(VideoResNet):
    """R(2+1)D-50: the middle of a bottleneck filters over frames, then over pixels; the stem has no pooling."""

    softmax_in_head = True
    stem_pools = False
    strides = (HALVE_PICTURES, HALVE_PICTURES, (2, 2, 2), (2, 2, 2))

    @staticmethod
    def middle(width: int, stride: Stride) -> nn.Module:
        """A factorised 3 x 3 x 3 convolution."""
        return _FactorisedConvolution(width, stride)


class _FactorisedConvolution(nn.Module):
    """A 3 x 1 x 1 convolution over frames, then a 1 x 3 x 3 convolution over pixels."""

    def __init__(self, width: int, stride: Stride) -> None:
        super().__init__()
        self.conv_t = nn.Conv3d(width, width, (3, 1, 1), stride=(stride[0], 1, 1), padding=(1, 0, 0), bias=False)
        self.norm = nn.BatchNorm3d(width)
        self.conv_xy = spatial_convolution(width, (1, stride[1], stride[2]))

    def forward(self, x: Tensor) -> Tensor:
        filtered: Tensor = self.conv_xy(torch.relu_(self.norm(self.conv_t(x))))
        return filtered


R2PLUS1D_NETWORKS = {"r3d_r50": VideoNetwork(R2Plus1D, zoo("R2PLUS1D_16x4_R50"), frames=16, size=256)}
