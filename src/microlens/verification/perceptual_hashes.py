"""Perceptual hashes of pictures."""

from importlib.util import find_spec

from PIL import Image

from microlens.media.pictures import Pixels

FLAT = ""
"""Stands for the hash of a picture that is black, white or grey all over, which would be noise."""
_LEAST_DEVIATION = 4.0


def can_hash() -> bool:
    """True if the library for perceptual hashes is installed."""
    return find_spec("imagehash") is not None


def picture_hashes(pictures: Pixels) -> list[str] | None:
    """The pHash (64 bits in hexadecimal) of each of P grey pictures (P, H, W); empty text for flat pictures.

    None if the package imagehash is not installed. Source: Zauner, Implementation and Benchmarking of Perceptual Image
    Hash Functions, 2010.
    """
    if not can_hash():
        return None
    from imagehash import phash

    return [FLAT if picture.std() < _LEAST_DEVIATION else str(phash(Image.fromarray(picture))) for picture in pictures]
