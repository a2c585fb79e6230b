"""Video encoders, one file per family."""

from collections.abc import Callable

from microlens.encoders.base import ItemEncoder
from microlens.encoders.video.clip import video_encoder
from microlens.encoders.video.csn import CSN_NETWORKS
from microlens.encoders.video.inception import INCEPTION_NETWORKS
from microlens.encoders.video.mvit import MVIT_NETWORKS
from microlens.encoders.video.network import VideoNetwork
from microlens.encoders.video.r2plus1d import R2PLUS1D_NETWORKS
from microlens.encoders.video.r3d import R3D_NETWORKS
from microlens.encoders.video.resnet import RESNET_NETWORKS
from microlens.encoders.video.slowfast import SLOWFAST_NETWORKS
from microlens.encoders.video.videomae import VIDEOMAE_NETWORKS
from microlens.encoders.video.x3d import X3D_NETWORKS

VIDEO_NETWORKS: dict[str, VideoNetwork] = {
    **R3D_NETWORKS,
    **R2PLUS1D_NETWORKS,
    **X3D_NETWORKS,
    **RESNET_NETWORKS,
    **CSN_NETWORKS,
    **SLOWFAST_NETWORKS,
    **MVIT_NETWORKS,
    **VIDEOMAE_NETWORKS,
    **INCEPTION_NETWORKS,
}
VIDEO_ENCODERS: dict[str, Callable[..., ItemEncoder]] = {
    name: video_encoder(network) for name, network in VIDEO_NETWORKS.items()
}
