"""Images as stored values: JPEG files behind a short header."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from microlens.errors import InputError

Images: TypeAlias = NDArray[np.uint8]

_IMAGES_MARK = b"MLJ1"
_IMAGES_HEADER = struct.Struct("<4sHHH")  # mark, F, H, W; followed by F lengths and F JPEG files


def pack_images(images: Images, quality: int = 90) -> bytes:
    """Encode images (F, H, W, 3) uint8 RGB as one value: a header and F JPEG files with 4:2:0 chroma subsampling."""
    F, H, W, _ = images.shape
    coded = [
        simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, colorspace="RGB", colorsubsampling="420")
        for image in images
    ]
    lengths = np.array([len(data) for data in coded], "<u4").tobytes()
    return b"".join([_IMAGES_HEADER.pack(_IMAGES_MARK, F, H, W), lengths, *coded])


def unpack_images(value: bytes) -> Images:
    """Decode the images (F, H, W, 3) uint8 RGB of one value.

    Raises:
        InputError: the value does not hold images, or is damaged.
    """
    pictures, shape = picture_files(value)
    images = np.empty(shape, np.uint8)
    decode_into(pictures, images)
    return images


def picture_files(value: bytes) -> tuple[list[memoryview], tuple[int, int, int, int]]:
    """The JPEG files of one value and their shape (F, H, W, 3), which is checked against their headers."""
    if len(value) < _IMAGES_HEADER.size or value[:4] != _IMAGES_MARK:
        raise InputError("a stored value is not a set of images")
    _, F, H, W = _IMAGES_HEADER.unpack_from(value)
    start = _IMAGES_HEADER.size + 4 * F
    if len(value) < start:
        raise InputError("a stored set of images is cut short")
    ends = [start, *(start + np.cumsum(np.frombuffer(value, "<u4", F, _IMAGES_HEADER.size), dtype=np.int64)).tolist()]
    if len(value) != ends[-1]:
        raise InputError("a stored set of images is cut short")
    view = memoryview(value)
    pictures = [view[start:end] for start, end in pairwise(ends)]
    with _name_damage():
        if any(simplejpeg.decode_jpeg_header(picture)[:2] != (H, W) for picture in pictures):
            raise InputError("a stored image has another size than its header says")
    return pictures, (F, H, W, 3)


def decode_into(pictures: list[memoryview], out: Images) -> None:
    """Decode JPEG files directly into `out` (F, H, W, 3), which has their shape."""
    with _name_damage():
        for picture, image in zip(pictures, out, strict=True):
            simplejpeg.decode_jpeg(picture, colorspace="RGB", buffer=image)


@contextmanager
def _name_damage() -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"a stored image is damaged: {error}") from None
