"""Opening text tables of unknown origin: compressed or not, in several encodings, with any line endings."""

import codecs
import gzip
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from microlens.errors import InputError

ACCEPTED = "text in UTF-8, UTF-16 with a byte-order mark or GB18030, plain or packed with gzip"

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is a prefix of this one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
GZIP = b"\x1f\x8b"
NO_TEXT = {
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"\xd0\xcf\x11\xe0": "a spreadsheet",
    b"PAR1": "a Parquet file",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ": "packed with xz",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"%PDF": "a PDF file",
}
MOST_TIMES_PACKED = 300  # maximum compression ratio; a table of numbers reaches 4, gzip at most about 1,000
_PACKED = ".gz"
_DAMAGES = (EOFError, zlib.error, gzip.BadGzipFile)
_PIECE = 1 << 20
_LONGEST_HEADER = 1 << 16  # bytes; only the beginning of a longer line is examined


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """A text table as UTF-8 without byte-order mark, with line feeds as line endings.

    ``damaged`` is True if invalid bytes were replaced by U+FFFD; ``notes`` names the encoding if it was not UTF-8.
    """

    path: Path
    content: bytes
    damaged: bool = False
    notes: list[str] = field(default_factory=list)


def read_text(path: Path, otherwise: str | None = None) -> TextFile:
    """Read a text table.

    Args:
        path: file to read.
        otherwise: the encoding of a file that is not UTF-8, if it is known.

    Raises:
        InputError: the file is not text, is compressed with something other than gzip, is damaged, or has an
            unsupported encoding.
    """
    raw = path.read_bytes()
    if raw.startswith(GZIP):
        raw = _unpacked(path, raw)
    for start, what in NO_TEXT.items():
        if raw.startswith(start):
            raise InputError(f"{path} is {what}; accepted is {ACCEPTED}.")
    content, encoding, damaged = _as_utf8(path, raw, otherwise)
    notes = []
    if encoding != "UTF-8":
        example = re.search("[^\x00-\x7f\r\n]+", content[:_PIECE].decode(errors="ignore"))
        notes.append(
            f"{path.name} was read as {encoding}" + (f", such as '{shown(example[0], 20)}'" if example else "")
        )
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    nul = content.find(b"\0")
    if nul >= 0:
        raise InputError(f"{path}, line {_line_of(content, nul)}: a NUL byte; accepted is {ACCEPTED}.")
    return TextFile(path=path, content=content, damaged=damaged, notes=notes)


def lines_of(content: bytes, number: int = 1) -> pl.DataFrame:
    """The non-blank lines: columns line (line number; the first line is ``number``) and text."""
    try:
        lines = pl.read_csv(
            content,
            has_header=False,
            separator="\0",  # does not occur in text
            quote_char=None,
            new_columns=["text"],
            schema_overrides=[pl.String],
            glob=False,
        )
    except pl.exceptions.NoDataError:  # no line, perhaps only a byte-order mark
        lines = pl.DataFrame(schema={"text": pl.String})
    return lines.with_row_index("line", offset=number).filter(pl.col("text").str.strip_chars() != "")


def first_line(content: bytes) -> tuple[int, int, str] | None:
    """Byte offset, number and text (or its beginning) of the first non-blank line; None if there is none."""
    start = re.search(rb"\S", content)
    if start is None:
        return None
    begin = content.rfind(b"\n", 0, start.start()) + 1
    line = content[begin : begin + _LONGEST_HEADER].partition(b"\n")[0]
    return begin, content.count(b"\n", 0, begin) + 1, line.decode(errors="ignore")


def beginning_of(path: Path) -> str:
    """The first non-blank line of a file, or its beginning; empty if the file is blank or a damaged gzip file."""
    try:
        return _beginning(path)
    except InputError:
        return ""


def check_beginning(path: Path) -> None:
    """Raise InputError if a file is a gzip file whose beginning is damaged."""
    _beginning(path)


def unpacked_name(path: Path) -> str:
    """The name of a file without the suffix ``.gz``; :func:`read_text` reads it with and without."""
    stem = path.name[: -len(_PACKED)]
    return stem if stem and path.name.lower().endswith(_PACKED) else path.name


def beside(path: Path, name: str) -> Path | None:
    """The file ``name`` in the folder of ``path``, plain or else packed (``name.gz``); None if there is none."""
    candidates = (path.with_name(name), path.with_name(name + _PACKED))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def shown(text: str, most: int = 80) -> str:
    """The beginning of ``text`` on one line, without control characters, for use in a message."""
    cut = text if len(text) <= most else f"{text[:most]}..."
    return "".join(letter if letter.isprintable() else " " for letter in cut)


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        is_packed = file.read(len(GZIP)) == GZIP
    try:
        with gzip.open(path) if is_packed else path.open("rb") as file:
            content = file.read(_LONGEST_HEADER)
    except _DAMAGES as error:
        raise _damaged(path, error) from None
    mark, encoding = next(((mark, name) for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), (b"", "utf-8"))
    content = content[len(mark) :]
    if encoding != "utf-8":
        content = content.decode(encoding, "ignore").encode()
    found = first_line(content.replace(b"\r", b"\n"))
    return found[2] if found else ""


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is a damaged gzip file ({shown(str(error))}); copy it again.")


def _unpacked(path: Path, raw: bytes) -> bytes:
    most = max(1 << 26, MOST_TIMES_PACKED * len(raw))
    pieces, size = [], 0
    try:
        with gzip.open(path) as file:
            while piece := file.read(_PIECE):
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    raise InputError(f"{path} unpacks to more than {MOST_TIMES_PACKED} times its size; unpack it.")
    except _DAMAGES as error:
        raise _damaged(path, error) from None
    return b"".join(pieces)


def _as_utf8(path: Path, raw: bytes, otherwise: str | None) -> tuple[bytes, str, bool]:
    """The text in UTF-8, its original encoding, and True if some of it was lost."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            raw = raw[len(mark) :]
            if encoding != "utf-8":
                return _from_wide(path, raw, encoding), encoding[:6].upper(), False
            break
    fault = _first_fault(raw)
    if fault is None:
        return raw, "UTF-8", False
    if otherwise is not None:
        return raw.decode(otherwise).encode(), otherwise, False
    chinese = _from_gb18030(raw)
    if chinese is not None:
        return chinese.encode(), "GB18030", False
    text = raw.decode("utf-8", "replace")
    good, bad = len(re.findall("[^\x00-\x7f\ufffd]", text)), text.count("\ufffd")
    if good > bad:  # truncated UTF-8, not another encoding
        return text.encode(), "UTF-8", True
    raise InputError(
        f"{path}, line {_line_of(raw, fault)}: the byte 0x{raw[fault]:02x} is not UTF-8; accepted is {ACCEPTED}."
    )


def _from_wide(path: Path, raw: bytes, encoding: str) -> bytes:
    try:
        return raw.decode(encoding).encode()
    except UnicodeDecodeError as error:
        line = _line_of(raw[: error.start].decode(encoding, "replace").encode(), error.start)
        raise InputError(f"{path}, line {line}: not {encoding[:6].upper()}, unlike the byte-order mark.") from None


def _first_fault(raw: bytes) -> int | None:
    """The offset of the first byte that is not UTF-8, found without decoding the whole text at once."""
    if raw.isascii():
        return None
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(raw), _PIECE):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(raw[start : start + _PIECE], final=start + _PIECE >= len(raw))
        except UnicodeDecodeError as error:
            return start - pending + error.start
    return None


def _from_gb18030(raw: bytes) -> str | None:
    """Decode GB18030 (or GBK, GB2312); None if the bytes are more likely in another encoding.

    Most text in other encodings is not valid GB18030. The remaining cases, Western accents before letters, Cyrillic,
    Japanese and Korean, decode to characters that are rare in Chinese text.
    """
    try:
        text = raw.decode("gb18030")
    except UnicodeDecodeError:
        return None
    if re.search("[\ue000-\uf8ff]", text):  # private use area
        return None
    wide = "".join(re.findall("[^\x00-\x7f]", text[:_PIECE]))
    pairs = np.frombuffer(wide.encode("gbk", "ignore"), np.uint8).reshape(-1, 2)
    row, cell = pairs[:, 0], pairs[:, 1]
    common = (row >= 0xB0) & (row <= 0xD7) & (cell >= 0xA1)  # level 1: the 3,755 characters of everyday text
    symbols = (row >= 0xA1) & (row <= 0xA3) & (cell >= 0xA1)
    characters = len(row) - int(symbols.sum())
    if common.sum() < 0.9 * characters:
        return None
    hangul_only = characters >= 20 and (row > 0xC8).sum() < 0.05 * characters  # Korean uses rows up to this
    return None if hangul_only else text


def _line_of(content: bytes, index: int) -> int:
    """The number of the line that contains the byte at ``index``."""
    return len((content[:index] + b".").splitlines())
