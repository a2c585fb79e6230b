"""What the first bytes of a file say about its content."""

import re
from pathlib import PurePath

from microlens.download.failures import Unavailable

PAGE = "a web page was sent in its place, perhaps that of a login"
BEGINNING = 512
"""Bytes that are enough to recognise a kind of file."""
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_MAGIC = {
    ".zip": (rb"PK(?:\x03\x04|\x05\x06|\x07\x08|00PK)", "zip"),
    ".npy": (rb"\x93NUMPY", "NumPy file"),
    ".parquet": (rb"PAR1", "Parquet file"),
}


def is_page(beginning: bytes) -> bool:
    """True if the first bytes of a file are those of a web page."""
    return _PAGE.match(beginning[:BEGINNING]) is not None


def check_beginning(beginning: bytes, path: str, *, is_html: bool = False) -> None:
    """Check the first bytes of a file that is to be called ``path``.

    Args:
        beginning: the first bytes, at most a few hundred are looked at.
        path: its name says what it should be.
        is_html: the server says that it is a web page.

    Raises:
        Unavailable: it is a web page, such as that of a login, or another kind of file than its name says.
    """
    if is_html or is_page(beginning):
        raise Unavailable(PAGE)
    magic, kind = _MAGIC.get(PurePath(path).suffix, (b"", ""))
    if not re.match(magic, beginning):
        raise Unavailable(f"it is no {kind}")
