"""Video encoders, one file a family."""

from collections.abc import Callable
from functools import partial

from microlens.encoders.base import ItemEncoder
from microlens.encoders.video.clip import video_encoder
from microlens.encoders.video.x3d import X3D_VARIANTS, build_x3d

VIDEO_ENCODERS: dict[str, Callable[..., ItemEncoder]] = {
    name: video_encoder(partial(build_x3d, name)) for name in X3D_VARIANTS
}
