"""What the first bytes of a file say about its content."""

import re
import struct
from pathlib import Path, PurePath
from typing import BinaryIO

from microlens.download.failures import UnavailableError
from microlens.files.sent_instead import sent_instead

PAGE = "a web page was sent in its place, perhaps that of a login"
_JPEG_END, _TAIL = b"\xff\xd9", 512
_MAGIC = {
    ".zip": (rb"PK(?:\x03\x04|\x05\x06|\x07\x08|00PK)", "zip"),
    ".npy": (rb"\x93NUMPY", "NumPy file"),
    ".parquet": (rb"PAR1", "Parquet file"),
}


def check_beginning(beginning: bytes, path: str, *, is_html: bool = False) -> None:
    """Check the first bytes of a file that is to be called ``path``.

    Args:
        beginning: the first bytes, at most a few hundred are looked at.
        path: its name says what it should be.
        is_html: the server says that it is a web page.

    Raises:
        UnavailableError: it is a web page, such as that of a login, an error message, or another kind of file than its
            name says.
    """
    other = sent_instead(beginning)
    if is_html or other == "a web page":
        raise UnavailableError(PAGE)
    if other:
        raise UnavailableError(f"{other} was sent in its place")
    magic, kind = _MAGIC.get(PurePath(path).suffix, (b"", ""))
    if not re.match(magic, beginning):
        raise UnavailableError(f"it is no {kind}")


def is_cut_short(path: Path, suffix: str) -> bool:
    """True if an mp4 file ends within a box, or a JPEG file lacks its end mark."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if suffix == ".jpg":
            file.seek(max(0, size - _TAIL))
            return _JPEG_END not in file.read()
        return suffix == ".mp4" and _last_box_ends(file, size) != size


def _last_box_ends(file: BinaryIO, size: int) -> int:
    """Where the last box of an mp4 file ends, which may be behind its end; see ISO/IEC 14496-12, section 4.2."""
    position = 0
    while position < size:
        file.seek(position)
        header = file.read(16).ljust(16, b"\0")
        length, _, long_length = struct.unpack(">L4sQ", header)
        if length == 1:
            length = long_length
        if length == 0:  # up to the end
            return size
        position += max(length, 8)
    return position
