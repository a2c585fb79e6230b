"""Conversion of pictures to the square input of networks: size limit, scaling, cropping and rotation."""

from typing import TypeAlias

import av
import numpy as np
from numpy.typing import NDArray

from microlens.media.clip_settings import Crop
from microlens.media.faults import MediaFault
from microlens.media.orientation import Orientation

Pixels: TypeAlias = NDArray[np.uint8]

# More than any camera's video has; a decoded picture of this size takes about 300 MB.
MAX_PIXELS = 8192 * 8192
# A picture longer than this multiple of its short side is cropped before scaling; scaling it first would fill memory.
_LONGEST_SHAPE = 8
# The scaling library fails beyond a factor of about 250.
_MAX_SHRINK_STEP = 64


def limit_size(width: int, height: int) -> None:
    """Check the number of pixels of a picture.

    Raises:
        MediaFault: it has more than MAX_PIXELS.
    """
    if width * height > MAX_PIXELS:
        raise MediaFault(f"its pictures have {width} x {height} pixels; accepted are up to {MAX_PIXELS:,}")


def square(frame: av.VideoFrame, size: int, crop: Crop, orientation: Orientation, pixel_ratio: float = 1.0) -> Pixels:
    """Convert a picture to upright RGB (size, size, 3); `pixel_ratio` is the width of a pixel divided by its height.

    Raises:
        MediaFault: it has more than MAX_PIXELS.
    """
    limit_size(frame.width, frame.height)
    width = height = size
    if crop == "center":
        shown_width = frame.width * pixel_ratio
        short, long = sorted((shown_width, frame.height))
        if long > _LONGEST_SHAPE * short:
            frame = _middle(frame, short / pixel_ratio, short)
        else:
            scale = size / short
            width, height = max(size, round(shown_width * scale)), max(size, round(frame.height * scale))
    upright = orientation.upright(_scaled(frame, width, height).to_ndarray())
    top, left = (upright.shape[0] - size) // 2, (upright.shape[1] - size) // 2
    return np.ascontiguousarray(upright[top : top + size, left : left + size])


def miniature(frame: av.VideoFrame, height: int, width: int, orientation: Orientation) -> Pixels:
    """Squash a picture to upright RGB (height, width, 3)."""
    limit_size(frame.width, frame.height)
    stored_width, stored_height = (height, width) if orientation.transposed else (width, height)
    return np.ascontiguousarray(orientation.upright(_scaled(frame, stored_width, stored_height).to_ndarray()))


def _middle(frame: av.VideoFrame, width: float, height: float) -> av.VideoFrame:
    """The centre of a frame with about this width and height, at least one pixel, as RGB."""
    columns = min(frame.width, max(1, round(width)))
    rows = min(frame.height, max(1, round(height)))
    top, left = (frame.height - rows) // 2, (frame.width - columns) // 2
    pixels: Pixels = np.asarray(frame.reformat(format="rgb24").to_ndarray(), np.uint8)
    middle = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
    return av.VideoFrame.from_ndarray(middle, format="rgb24")


def _scaled(frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    while frame.width > width * _MAX_SHRINK_STEP or frame.height > height * _MAX_SHRINK_STEP:
        frame = frame.reformat(
            width=max(width, -(-frame.width // _MAX_SHRINK_STEP)),
            height=max(height, -(-frame.height // _MAX_SHRINK_STEP)),
            format="rgb24",
            interpolation="BILINEAR",
        )
    return frame.reformat(width=width, height=height, format="rgb24", interpolation="BILINEAR")
