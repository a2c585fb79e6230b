"""Decoding of JPEG pictures, including pictures with faults only near the end marker."""

import re
from collections.abc import Iterator

import simplejpeg

from microlens.media.faults import MediaFault
from microlens.media.pictures import Pixels, limit_size

START = b"\xff\xd8"
_END = b"\xff\xd9"
_APPLICATION_1, _SCAN, _PROGRESSIVE = 0xE1, 0xDA, {0xC2, 0xC6, 0xCA, 0xCE}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Frames, tables, scans, restart intervals, application data and comments; any other marker ends the picture.
_SEGMENTS = {*range(0xC0, 0xD0), _SCAN, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE}
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # in a scan, ff00 is an escaped ff and ffd0..ffd7 are restarts
_EXIF = b"Exif\0\0"
# The amount of junk that the decoder reports depends on its read-ahead, so removing all of it may take several tries.
_MAX_TRIES = 8
_JUNK = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


def decode_jpeg(data: bytes) -> tuple[Pixels, tuple[str, ...]]:
    """Decode the stored RGB pixels (H, W, 3) of a JPEG picture; also return the faults that were worked around.

    A picture with all pixels present is decoded even if its end marker is missing or preceded by junk.

    Raises:
        MediaFault: the picture is damaged or incomplete, or has too many pixels.
    """
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data, strict=False)
        limit_size(width, height)
        return _decode(data), ()
    except KeyError:
        raise MediaFault("incomplete or damaged JPEG picture (its header is damaged)") from None
    except ValueError as error:
        reason = str(error)
    end, all_sent = _scans(data)
    picture = data[:end] if all_sent else b""
    for _ in range(_MAX_TRIES):
        try:
            pixels = _decode(picture + _END)
        except (ValueError, KeyError) as error:
            junk = _JUNK.search(str(error))
            picture = picture[: -int(junk[1])] if junk else b""
        else:
            return pixels, ("junk before the end marker" if _END in data[end:] else "the end marker is missing",)
    raise MediaFault(f"incomplete or damaged JPEG picture ({reason})")


def exif_record(data: bytes) -> bytes | None:
    """The EXIF record of a JPEG file, or None if there is none before its first scan."""
    for marker, _, payload in _segments(data):
        if marker == _APPLICATION_1 and payload.startswith(_EXIF):
            return payload
        if marker == _SCAN:
            break
    return None


def _decode(data: bytes) -> Pixels:
    pixels: Pixels = simplejpeg.decode_jpeg(data, colorspace="RGB")
    return pixels


def _segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the marker, position and payload of each segment, skipping entropy-coded data.

    The last one has no payload; it is the end marker or the first one that is not valid inside a picture.
    """
    position = len(START)
    while found := _MARKER.search(data, position):
        marker, start = found[1][0], found.end()
        length = int.from_bytes(data[start : start + 2])
        position = start + length
        if marker not in _SEGMENTS or length < 2 or position > len(data):
            yield marker, found.start(), b""
            return
        yield marker, found.start(), data[start + 2 : position]


def _scans(data: bytes) -> tuple[int, bool]:
    """The end of the last scan of a JPEG file, and whether all coefficients were transmitted completely."""
    end, in_scan, progressive = 0, False, False
    unsent: dict[int, set[int]] = {}  # coefficients not yet complete, by component
    for marker, index, payload in _segments(data):
        end = index if in_scan else end
        in_scan = marker == _SCAN and len(payload) > 3
        if marker in _FRAMES:
            progressive = marker in _PROGRESSIVE
            unsent = {component: set(range(64)) for component in payload[6::3]}
        elif in_scan:
            first, last, bits = payload[-3:] if progressive else (0, 63, 0)
            for component in payload[1 : 1 + 2 * payload[0] : 2]:
                if not bits & 15:
                    unsent[component] = unsent.get(component, set()) - {*range(first, last + 1)}
    return len(data) if in_scan else end, not any(unsent.values())
