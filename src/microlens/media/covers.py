"""Decoding of cover pictures: the format is detected from the content, not from the suffix."""

import io
import re
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)
from PIL.ImageFile import ImageFile

from microlens.media.faults import MediaFault
from microlens.media.jpeg import decode_jpeg, exif_record
from microlens.media.orientation import Orientation, exif_orientation
from microlens.media.pictures import Pixels, limit_size

# Background of transparent pixels.
_BACKGROUND = "white"
# Pillow reads more formats, but some of its readers run other programs or open other files: only these are used.
_READERS: dict[str, type[ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,  # the plugin already applies its orientation
}
_ACCEPTED = ", ".join(["JPEG", *_READERS])
_STARTS = {
    "JPEG": rb"\xff\xd8",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WebP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM",
    "TIFF": rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "JPEG 2000": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ",
    "SVG": rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*|<!DOCTYPE[^>]*>\s*)*<svg",
}
_BRANDS = {"AVIF": {b"avif", b"avis"}, "HEIC": {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}}
_LONGEST_START = 1024
_PNG_PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


@dataclass(frozen=True, kw_only=True)
class StoredPicture:
    """A decoded picture: stored RGB pixels (H, W, 3), their orientation, and faults that were worked around."""

    pixels: Pixels
    orientation: Orientation
    faults: tuple[str, ...] = ()


def decode_picture(data: bytes) -> StoredPicture:
    """Decode the first picture of a JPEG, PNG, WebP, GIF, BMP, AVIF or TIFF file; transparent pixels become white.

    Raises:
        MediaFault: the file has another format, is damaged or incomplete, or has too many pixels.
    """
    kind = _kind(data[:_LONGEST_START])
    if kind == "JPEG":
        pixels, faults = decode_jpeg(data)
        return StoredPicture(pixels=pixels, orientation=exif_orientation(exif_record(data)), faults=faults)
    if kind not in _READERS:
        what = f"a picture of the kind {kind}" if kind else "not a media file of a known kind"
        raise MediaFault(f"{what}; accepted covers are {_ACCEPTED}")
    if kind == "AVIF" and not features.check("avif"):
        raise MediaFault("a picture of the kind AVIF, which the installed Pillow was built without")
    try:
        with warnings.catch_warnings(action="ignore"):  # about unusual headers; damage is reported below
            return _read(kind, data)
    except (MediaFault, MemoryError):
        raise
    except Exception as error:  # damaged files raise exceptions of many types
        raise MediaFault(f"incomplete or damaged {kind} picture ({error})") from error


def _kind(start: bytes) -> str:
    if start[4:8] == b"ftyp":
        brands = {start[i : i + 4] for i in range(8, min(int.from_bytes(start[:4]), len(start)), 4)}
        return next((kind for kind, own in _BRANDS.items() if own & brands), "")
    return next((kind for kind, pattern in _STARTS.items() if re.match(pattern, start, re.DOTALL)), "")


def _read(kind: str, data: bytes) -> StoredPicture:
    exif = None
    if kind == "PNG":
        data, exif = _png_picture(data)
    if kind == "WebP":
        limit_size(*_webp_size(data))  # before opening, which already allocates the pixels
    with _READERS[kind](io.BytesIO(data)) as image:
        limit_size(*image.size)
        image.load()
        return StoredPicture(pixels=_rgb(image), orientation=exif_orientation(exif or image.info.get("exif")))


def _png_picture(data: bytes) -> tuple[bytes, bytes | None]:
    """Reduce a PNG file to the chunks of its first picture; also return its EXIF record, if any.

    Damaged other chunks then do not affect the picture.
    """
    chunks = [data[:8]]
    exif = None
    position = len(chunks[0])
    while position < len(data):
        name = data[position + 4 : position + 8]
        stop = position + 12 + int.from_bytes(data[position : position + 4])
        if name in _PNG_PICTURE:
            chunks.append(data[position:stop])
        elif name == b"eXIf":
            exif = data[position + 8 : stop - 4]
        elif not name.isalpha():
            break
        position = stop
    return b"".join(chunks), exif


def _webp_size(data: bytes) -> tuple[int, int]:
    """The width and height in the header of a WebP file."""
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def _rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        ground = Image.new("RGB", image.size, _BACKGROUND)
        ground.paste(picture, mask=picture)
        return np.asarray(ground)
    return np.asarray(image.convert("RGB"))
