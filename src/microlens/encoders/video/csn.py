"""The channel-separated video network CSN-101.

Tran et al., "Video Classification with Channel-Separated Convolutional Networks", ICCV 2019, arXiv 1904.02811; the
interaction-reduced variant. Parameter names are PyTorchVideo 0.1.5's, see :mod:`microlens.encoders.video.resnet`.
"""

from torch import nn

from microlens.encoders.video.depthwise import DepthwiseConv3d
from microlens.encoders.video.network import VideoNetwork, zoo
from microlens.encoders.video.resnet import DEPTHS_101, KEEP, Stride, VideoResNet

HALVE_ALL: Stride = (2, 2, 2)


class CSN(VideoResNet):
    """CSN-101: only pointwise convolutions mix channels; the middle of a bottleneck is depthwise."""

    depths = DEPTHS_101
    stem_frames = 3
    strides = (KEEP, HALVE_ALL, HALVE_ALL, HALVE_ALL)
    dropout = 0.0

    @staticmethod
    def middle(width: int, stride: Stride) -> nn.Module:
        """A depthwise 3 x 3 x 3 convolution."""
        return DepthwiseConv3d(width, (3, 3, 3), temporal_stride=stride[0], spatial_stride=stride[1])


CSN_NETWORKS = {"csn_r101": VideoNetwork(CSN, zoo("CSN_32x2_R101"), frames=32, size=256)}
