"""Reading large text tables in blocks of whole lines, in bounded memory."""

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from microlens.errors import InputError
from microlens.release.text_files import (
    ACCEPTED,
    BYTE_ORDER_MARKS,
    GZIP,
    MOST_TIMES_PACKED,
    NO_TEXT,
    TextFile,
    read_text,
)

BLOCK_BYTES = 1 << 24
Block = tuple[int, bytes]
"""The number of the first line of a block, and its lines."""


@dataclass(kw_only=True)
class TextBlocks:
    """A text table in blocks of whole lines, decoded as by :func:`microlens.release.text_files.read_text`.

    A file in UTF-8, packed or not, is read anew by every iteration. One in another encoding is held in memory.
    """

    path: Path
    block_bytes: int
    num_bytes: int
    whole: TextFile | None = None
    _done: int = 0

    @property
    def notes(self) -> list[str]:
        """The encoding, if it is not UTF-8."""
        return [] if self.whole is None else self.whole.notes

    @property
    def progress(self) -> tuple[int, int]:
        """MB of text that the last iteration read, and of the whole table."""
        return self._done // 1_000_000, self.num_bytes // 1_000_000

    def __iter__(self) -> Iterator[Block]:
        self._done = 0
        number, parts = 1, [b""]
        for piece in self._pieces():
            self._done += len(piece)
            cut = piece.rfind(b"\n") + 1
            if not cut:  # inside a long line
                parts.append(piece)
                continue
            block = b"".join([*parts, piece[:cut]])
            parts = [piece[cut:]]
            yield number, block
            number += block.count(b"\n")
        if last := b"".join(parts):
            yield number, last

    def _pieces(self) -> Iterator[bytes]:
        if self.whole is None:
            return _with_line_feeds(_raw_pieces(self.path, self.block_bytes))
        content, size = self.whole.content, self.block_bytes
        return (content[start : start + size] for start in range(0, len(content), size))


def open_blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> TextBlocks:
    """Check the encoding of a text table, and open it.

    Args:
        path: file to read.
        block_bytes: size of a block without its last line.

    Raises:
        InputError: as :func:`microlens.release.text_files.read_text`.
    """
    size = _size_if_utf8(path)
    if size is not None:
        return TextBlocks(path=path, block_bytes=block_bytes, num_bytes=size)
    whole = read_text(path)
    return TextBlocks(path=path, block_bytes=block_bytes, num_bytes=len(whole.content), whole=whole)


def _size_if_utf8(path: Path) -> int | None:
    """The length of a text in UTF-8 in bytes; None if a file has to be read as a whole to find out what it is.

    Raises:
        InputError: the text holds a NUL byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    size, line, line_of_nul = 0, 1, 0
    try:
        if _begins_otherwise(path):
            return None
        for piece in _with_line_feeds(_raw_pieces(path, BLOCK_BYTES)):
            size += len(piece)
            if not piece.isascii() or decoder.getstate()[0]:
                decoder.decode(piece)
            if not line_of_nul and b"\0" in piece:
                line_of_nul = line + piece.count(b"\n", 0, piece.find(b"\0"))
            line += piece.count(b"\n")
        decoder.decode(b"", final=True)
    except (UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile, _TooLargeError):
        return None
    if line_of_nul:
        raise InputError(f"{path}, line {line_of_nul}: a NUL byte; accepted is {ACCEPTED}.")
    return size


class _TooLargeError(Exception):
    """A packed file is far larger than tables become."""


def _begins_otherwise(path: Path) -> bool:
    """True if a file begins as one that is no text or text in UTF-16 or UTF-32."""
    marks = [mark for mark, encoding in BYTE_ORDER_MARKS if encoding != "utf-8"]
    return next(_raw_pieces(path, BLOCK_BYTES), b"").startswith((*marks, *NO_TEXT))


def _raw_pieces(path: Path, size: int) -> Iterator[bytes]:
    """The content of a file, unpacked and without a byte-order mark of UTF-8, in pieces of ``size``."""
    with path.open("rb") as file:
        is_packed = file.read(len(GZIP)) == GZIP
    most = max(1 << 26, MOST_TIMES_PACKED * path.stat().st_size)
    read = 0
    with gzip.open(path) if is_packed else path.open("rb") as file:
        yield file.read(max(size, len(codecs.BOM_UTF8))).removeprefix(codecs.BOM_UTF8)
        while piece := file.read(size):
            read += len(piece)
            if is_packed and read > most:
                raise _TooLargeError
            yield piece


def _with_line_feeds(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces with line feeds as the only line ends."""
    held = b""
    for piece in pieces:
        whole = held + piece
        held = b"\r" if whole.endswith(b"\r") else b""  # its line feed may follow
        whole = whole.removesuffix(held)
        if b"\r" in whole:
            whole = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield whole
    if held:
        yield b"\n"
