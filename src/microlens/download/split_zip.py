"""Members of a zip that is split into parts (``.z01``, ``.z02``, ..., ``.zip``), each read without the others.

The directory at the end of the last part names for each member the part in which it starts and its position there.
Positions here are those in all parts one after another.
"""

import io
import struct
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, Protocol

from microlens.download.content import check_beginning
from microlens.download.failures import UnavailableError

Write = Callable[[bytes], object]
_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_LOCAL_HEADER, _LOCAL_SIZE = b"PK\x03\x04", 30
_LONGEST_COMMENT = _LONGEST_EXTRA = 65_535
_END_SIZE, _END64_SIZE, _LOCATOR64_SIZE = 22, 56, 20
LONGEST_END = _END64_SIZE + _LOCATOR64_SIZE + _END_SIZE + _LONGEST_COMMENT
_ENCRYPTED = 1
_UNKNOWN_PART = 0xFFFF  # told by the zip64 record


class Parts(Protocol):
    """The parts of a zip, on a server or on this machine."""

    @property
    def sizes(self) -> Sequence[int]:
        """Bytes of each part."""

    def read(self, part: int, start: int, end: int, write: Write) -> None:
        """Give the bytes ``start`` to ``end`` (exclusive) of a part to ``write``; raises UnavailableError."""


@dataclass(frozen=True)
class LocalParts:
    """Parts that are files on this machine; None stands for one that is missing, taken to be as large as the others."""

    paths: tuple[Path | None, ...]

    @property
    def last(self) -> Path:
        """The last part."""
        path = self.paths[-1]
        assert path is not None
        return path

    @cached_property
    def sizes(self) -> list[int]:
        """Bytes of each part."""
        known = [None if path is None else path.stat().st_size for path in self.paths]
        usual = max(size or 0 for size in known)
        return [usual if size is None else size for size in known]

    def read(self, part: int, start: int, end: int, write: Write) -> None:
        """Give the bytes ``start`` to ``end`` (exclusive) of a part to ``write``."""
        path = self.paths[part]
        if path is None:
            raise UnavailableError(f"the part .z{part + 1:02} is not there")
        with path.open("rb") as file:
            file.seek(start)
            while start < end and (chunk := file.read(min(2**20, end - start))):
                start += len(chunk)
                write(chunk)


@dataclass(frozen=True)
class Member:
    """A file in a zip: its entry in the directory, and the positions of its header and of what follows it."""

    info: zipfile.ZipInfo
    start: int
    end: int


def read_across(parts: Parts, start: int, end: int, write: Write) -> None:
    """Give the bytes from position ``start`` to ``end`` (exclusive) to ``write``, from as many parts as they lie in."""
    starts = [0, *accumulate(parts.sizes)]
    while start < end:
        part = bisect_right(starts, start) - 1
        if part >= len(parts.sizes):
            raise UnavailableError("the zip is cut short")
        stop = min(end, starts[part + 1])
        parts.read(part, start - starts[part], stop - starts[part], write)
        start = stop


def read_directory_bytes(parts: Parts) -> bytes:
    """The directory of a zip and everything behind it, with which :func:`parse_directory` begins.

    Raises:
        UnavailableError: it is no zip, or is cut short.
    """
    total = sum(parts.sizes)
    first = max(0, total - LONGEST_END)
    try:  # without the parts before the last one, which may be missing
        tail = _bytes(parts, max(first, total - parts.sizes[-1]), total)
        _, part, offset = end_of_zip(tail)
    except UnavailableError:
        tail = _bytes(parts, first, total)
        _, part, offset = end_of_zip(tail)
    if part >= len(parts.sizes):
        raise UnavailableError(f"the zip has more than {len(parts.sizes)} parts")
    start = sum(parts.sizes[:part]) + offset
    if start > total:
        raise UnavailableError("the directory of the zip is damaged")
    return tail[start - total :] if total - start <= len(tail) else _bytes(parts, start, total)


def parse_directory(directory: bytes, sizes: Sequence[int]) -> list[Member]:
    """The members of a zip, in the order of their positions.

    Args:
        directory: see :func:`read_directory_bytes`.
        sizes: bytes of each part.

    Raises:
        UnavailableError: the directory is damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(_standing_alone(directory))) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError) as error:
        raise UnavailableError(f"the directory of the zip is damaged ({error})") from None
    starts = [0, *accumulate(sizes)]
    if any(entry.volume >= len(sizes) for entry in entries):
        raise UnavailableError(f"the zip has more than {len(sizes)} parts")
    located = sorted(((starts[entry.volume] + entry.header_offset, entry) for entry in entries), key=itemgetter(0))
    ends = [*(start for start, _ in located[1:]), starts[-1] - len(directory)]
    return [Member(entry, start, end) for (start, entry), end in zip(located, ends, strict=False)]


def extract(parts: Parts, member: Member, target: Path, on_bytes: Callable[[int], object] = int) -> None:
    """Write the content of a member to ``target``.

    Args:
        parts: the parts of the zip.
        member: what to extract.
        target: a file that is overwritten.
        on_bytes: called with the number of bytes read so far.

    Raises:
        UnavailableError: it is damaged, encrypted, or compressed in a way that is not read.
    """
    with target.open("wb") as file:
        unpacking = _Unpacking(member.info, file.write, on_bytes)
        longest = _LOCAL_SIZE + 2 * _LONGEST_EXTRA + member.info.compress_size
        read_across(parts, member.start, min(member.end, member.start + longest), unpacking.feed)
        unpacking.finish()


class _Unpacking:
    """Unpacks one member, which begins with a header of its own, as its bytes arrive."""

    def __init__(self, info: zipfile.ZipInfo, write: Write, on_bytes: Callable[[int], object]) -> None:
        if info.flag_bits & _ENCRYPTED:
            raise UnavailableError("it is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnavailableError(f"its compression is not read here (method {info.compress_type})")
        self.info, self.write, self.on_bytes = info, write, on_bytes
        self.inflating = zlib.decompressobj(-zlib.MAX_WBITS) if info.compress_type == zipfile.ZIP_DEFLATED else None
        self.header: bytes | None = b""
        self.left, self.size, self.crc = info.compress_size, 0, 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        if self.header is not None:
            self.header += chunk
            begin = self._data_begins()
            if begin is None or len(self.header) < begin:
                return
            chunk, self.header = self.header[begin:], None
        chunk = chunk[: self.left]
        self.left -= len(chunk)
        self._write(self._inflate(chunk) if chunk else b"")
        self.on_bytes(self.info.compress_size - self.left)

    def finish(self) -> None:
        """Check that the content is complete."""
        if self.inflating:
            self._write(self.inflating.flush())
        if self.left or self.size != self.info.file_size:
            raise UnavailableError("it is cut short in the zip")
        if self.crc != self.info.CRC:
            raise UnavailableError(f"its CRC-32 is {self.crc:08x}, and {self.info.CRC:08x} in the directory of the zip")

    def _data_begins(self) -> int | None:
        """Bytes of the member's header, if enough of it is there to tell."""
        header = self.header or b""
        if len(header) < _LOCAL_SIZE:
            return None
        if not header.startswith(_LOCAL_HEADER):
            raise UnavailableError("the zip is damaged at its position")
        name, extra = struct.unpack_from("<HH", header, 26)
        return _LOCAL_SIZE + int(name) + int(extra)

    def _inflate(self, chunk: bytes) -> bytes:
        try:
            return self.inflating.decompress(chunk) if self.inflating else chunk
        except zlib.error as error:
            raise UnavailableError(f"it is damaged in the zip ({error})") from None

    def _write(self, content: bytes) -> None:
        if not content:
            return
        if self.size == 0:
            check_beginning(content, self.info.filename)
        self.size += len(content)
        if self.size > self.info.file_size:
            raise UnavailableError("it is longer than the directory of the zip says")
        self.crc = zlib.crc32(content, self.crc)
        self.write(content)


def _bytes(parts: Parts, start: int, end: int) -> bytes:
    content = bytearray()
    read_across(parts, start, end, content.extend)
    return bytes(content)


class End(NamedTuple):
    """The end of a zip: the number of the last part, the part in which the directory starts, its position there."""

    last: int
    part: int
    offset: int


def end_of_zip(tail: bytes) -> End:
    """Read the end of a zip in its last bytes.

    Raises:
        UnavailableError: it is not there.
    """
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + _END_SIZE:
        raise UnavailableError("it is no zip, or is cut short")
    last, part, _, _, _, offset = struct.unpack_from("<HHHHLL", tail, at + 4)
    at64 = at - _LOCATOR64_SIZE - _END64_SIZE
    if tail[at - _LOCATOR64_SIZE : at].startswith(_LOCATOR64) and tail[at64:].startswith(_END64):
        last, part, _, _, _, offset = struct.unpack_from("<LLQQQQ", tail, at64 + 16)
    elif _UNKNOWN_PART in (last, part):
        raise UnavailableError("the end of the zip is damaged")
    return End(last, part, offset)


def _standing_alone(directory: bytes) -> bytes:
    """The same bytes with a zip's end that says that the directory is at position 0 of the only part.

    zipfile refuses a zip64 of several parts. Without this, it would also move positions by where the directory is.
    """
    at = directory.rfind(_END)
    at64 = at - _LOCATOR64_SIZE - _END64_SIZE
    if at64 < 0 or not directory[at - _LOCATOR64_SIZE :].startswith(_LOCATOR64):
        return directory[: at + 16] + struct.pack("<L", 0) + directory[at + 20 :]
    end64 = directory[at64 : at64 + 48] + struct.pack("<Q", 0)
    return directory[:at64] + end64 + struct.pack("<4sLQL", _LOCATOR64, 0, at64, 1) + directory[at:]
