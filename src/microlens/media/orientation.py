"""Orientation of stored pictures: the eight EXIF orientations and video display matrices."""

import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import av
from av.sidedata.sidedata import SideData
from numpy.typing import NDArray
from PIL import ExifTags, Image

_DISPLAY_MATRIX = struct.Struct("=9i")


@dataclass(frozen=True)
class Orientation:
    """The transformation of a stored picture to its upright view.

    The axes are swapped if `transposed`; then the picture is `mirrored` left to right and `flipped` top to bottom.
    """

    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False

    def upright(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Turn a picture (H, W, ...) upright: (H, W, ...), or (W, H, ...) if its axes are swapped."""
        turned = pixels.swapaxes(0, 1) if self.transposed else pixels
        return turned[:: -1 if self.flipped else 1, :: -1 if self.mirrored else 1]


# By value of the EXIF orientation tag.
_EXIF = {
    1: Orientation(),
    2: Orientation(mirrored=True),
    3: Orientation(mirrored=True, flipped=True),
    4: Orientation(flipped=True),
    5: Orientation(transposed=True),
    6: Orientation(transposed=True, mirrored=True),
    7: Orientation(transposed=True, mirrored=True, flipped=True),
    8: Orientation(transposed=True, flipped=True),
}
# By number of counter-clockwise quarter turns.
_TURNS = (_EXIF[1], _EXIF[8], _EXIF[3], _EXIF[6])


def exif_orientation(exif: bytes | None) -> Orientation:
    """The orientation in an EXIF record; upright if there is none or it cannot be read."""
    tags = Image.Exif()
    stated = None
    # Damaged records raise exceptions and warnings of many types; the picture itself can still be used.
    with suppress(Exception), warnings.catch_warnings(action="ignore"):
        tags.load(exif or b"")
        stated = tags.get(ExifTags.Base.Orientation)
    return _EXIF[stated] if isinstance(stated, int) and stated in _EXIF else _EXIF[1]


def frame_orientation(frame: av.VideoFrame) -> Orientation:
    """The orientation in the display matrix of a decoded frame, rounded to quarter turns."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know other side data of this frame; the rotation angle is still available
        return _TURNS[round(frame.rotation / 90) % 4]
    return matrix_orientation(bytes(matrix)) if isinstance(matrix, SideData) else Orientation()


def matrix_orientation(matrix: bytes) -> Orientation:
    """The orientation of a display matrix: nine native 32-bit integers that map (x, y) to (a x + c y, b x + d y)."""
    a, b, _, c, d, *_ = _DISPLAY_MATRIX.unpack(matrix[: _DISPLAY_MATRIX.size])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transposed=True, mirrored=c < 0, flipped=b < 0)
    return Orientation(mirrored=a < 0, flipped=d < 0)
