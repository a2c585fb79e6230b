"""Values of the LMDB files that the original code writes: pickled objects that hold normalised pixels.

An ``LMDB_VIDEO`` holds the frames of a video as the bytes of float32 (F, 3, 224, 224) in its attribute ``video``, an
``LMDB_Image`` a cover as (3, 224, 224) in ``image``; of other code by the same authors, a cover as uint8 (H, W, C) with
attributes ``size`` (H, W) and ``channels``. Covers are normalised to [-1, 1], frames by the statistics of ImageNet.
"""

import pickle
import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from microlens.errors import InputError
from microlens.files.array_pickles import read_record
from microlens.media.packing import Images

Kind = Literal["covers", "clips"]

SIZE = 224
CLASSES: dict[Kind, str] = {"covers": "LMDB_Image", "clips": "LMDB_VIDEO"}
_ATTRIBUTES: dict[Kind, str] = {"covers": "image", "clips": "video"}
_FRAME_BYTES = 3 * SIZE * SIZE * 4
_MOST_BYTES = 2**28
_WHOLE = 0.02  # greatest distance of a pixel from a whole number that rounding to float32 explains


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation by which pixels in [0, 1] were normalised, by colour."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def applied(self, images: Images) -> NDArray[np.float32]:
        """Images (F, H, W, 3) uint8 as normalised (F, 3, H, W)."""
        pixels = images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
        return (pixels - self._column(self.mean)) / self._column(self.std)

    def undone(self, values: NDArray[np.float32]) -> Images | None:
        """The images (F, H, W, 3) uint8 that were normalised to (F, 3, H, W); None if they were no whole numbers."""
        pixels = (values * self._column(self.std) + self._column(self.mean)) * np.float32(255)
        whole = np.rint(pixels)
        if not (np.abs(pixels - whole).max() < _WHOLE and whole.min() >= 0 and whole.max() <= 255):
            return None  # also of NaN
        return np.ascontiguousarray(whole.astype(np.uint8).transpose(0, 2, 3, 1))

    @staticmethod
    def _column(values: tuple[float, float, float]) -> NDArray[np.float32]:
        return np.array(values, np.float32)[:, None, None]


PLAIN = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_NORMALISATIONS: dict[Kind, Normalisation] = {"covers": PLAIN, "clips": IMAGENET}


def _folded_values() -> NDArray[np.uint8]:
    """Values of frames that the original code normalised twice; the second time, negative numbers wrapped around."""
    once = (np.arange(256, dtype=np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    return np.unique((np.trunc(once * np.float32(255)).astype(np.int64) % 256).astype(np.uint8))


_FOLDED = np.isin(np.arange(256), _folded_values())


@dataclass(frozen=True, kw_only=True)
class OriginalImages:
    """Images (F, H, W, 3) uint8 RGB of an item, F = 1 for covers.

    ``folded`` is true if they were normalised twice by the original code, which maps v to about 2v modulo 256: their
    dark half and their bright half cannot be told apart any more.
    """

    kind: Kind
    images: Images
    folded: bool


def unpack_original(value: bytes, name: str) -> OriginalImages:
    """Decode one value; no code in it is run.

    Args:
        value: the pickle.
        name: of the value, for messages.

    Raises:
        InputError: it is not a pickle of such an object, or holds no pixels.
    """
    if len(value) > _MOST_BYTES:
        raise InputError(f"{name} has {len(value):,} bytes; accepted are up to {_MOST_BYTES:,}.")
    attributes = read_record(value, CLASSES.values(), name)
    for kind in CLASSES:
        content = attributes.get(_ATTRIBUTES[kind])
        if isinstance(content, bytes):
            images = _plain_images(content, attributes) if "size" in attributes else _normalised_images(content)
            if images is None:
                raise InputError(
                    f"{name} holds {len(content):,} bytes that are no pixels as the original code has them."
                )
            folded = kind == "clips" and bool(_FOLDED[images].all())
            return OriginalImages(kind=kind, images=images, folded=folded)
    raise InputError(f"{name} has none of the attributes {', '.join(_ATTRIBUTES.values())}.")


def _normalised_images(content: bytes) -> Images | None:
    if not content or len(content) % _FRAME_BYTES:
        return None
    values = np.frombuffer(content, "<f4").reshape(-1, 3, SIZE, SIZE)
    with np.errstate(all="ignore"):
        undone = (normalisation.undone(values) for normalisation in _NORMALISATIONS.values())
        return next((images for images in undone if images is not None), None)


def _plain_images(content: bytes, attributes: dict[str, Any]) -> Images | None:
    size, channels = attributes["size"], attributes.get("channels")
    sides = (*size, channels) if isinstance(size, tuple | list) else ()
    if len(sides) != 3 or channels != 3 or not all(type(side) is int and 0 < side <= SIZE * SIZE for side in sides):
        return None
    height, width, _ = sides
    return np.frombuffer(content, np.uint8).reshape(1, height, width, 3) if len(content) == height * width * 3 else None


def pack_original(kind: Kind, images: Images) -> bytes:
    """Encode images (F, 224, 224, 3) as a value that the original code reads, covers with F = 1.

    The pickle names a class of the program that reads it, ``__main__.LMDB_VIDEO`` or ``__main__.LMDB_Image``, which
    does not exist here; therefore it is put together by hand.
    """
    pixels = _NORMALISATIONS[kind].applied(images).astype("<f4").tobytes()
    attribute = _ATTRIBUTES[kind].encode()
    return b"".join([
        pickle.PROTO, b"\x03", pickle.GLOBAL, f"__main__\n{CLASSES[kind]}\n".encode(), pickle.EMPTY_TUPLE,
        pickle.NEWOBJ, pickle.EMPTY_DICT, pickle.BINUNICODE, struct.pack("<I", len(attribute)), attribute,
        pickle.BINBYTES, struct.pack("<I", len(pixels)), pixels, pickle.SETITEM, pickle.BUILD, pickle.STOP,
    ])  # fmt: skip
