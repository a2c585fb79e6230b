"""Zips for tests: split into parts, with zip64 records, and with faults."""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

_UNKNOWN32, _UNKNOWN16 = 2**32 - 1, 2**16 - 1


@dataclass(frozen=True)
class _Written:
    name: bytes
    method: int
    crc: int
    compressed: int
    size: int
    part: int
    offset: int


def split_zip(
    members: Mapping[str, bytes],
    part_size: int,
    *,
    zip64: bool = False,
    stored: bool = False,
    wrong_crc: str = "",
    comment: bytes = b"",
) -> list[bytes]:
    """The parts of a zip as Info-ZIP splits it: headers lie in one part, contents across their borders.

    Args:
        members: contents by name.
        part_size: most bytes of a part.
        zip64: write zip64 records, for members too.
        stored: do not compress.
        wrong_crc: the name of a member whose CRC-32 is wrong.
        comment: the zip's comment.
    """
    parts = [bytearray(b"PK\x07\x08")]

    def append(content: bytes, *, whole: bool) -> tuple[int, int]:
        """Append to the last part, or to new ones; returns where it starts."""
        if len(parts[-1]) >= part_size or (whole and len(parts[-1]) + len(content) > part_size):
            parts.append(bytearray())
        start = len(parts) - 1, len(parts[-1])
        while content:
            room = part_size - len(parts[-1])
            if room <= 0 and not whole:
                parts.append(bytearray())
                continue
            taken = len(content) if whole else room
            parts[-1] += content[:taken]
            content = content[taken:]
        return start

    written = []
    for name, content in members.items():
        packer = zlib.compressobj(wbits=-15)
        data = content if stored else packer.compress(content) + packer.flush()
        crc = zlib.crc32(content) ^ (name == wrong_crc)
        method, encoded = 0 if stored else 8, name.encode()
        extra = struct.pack("<HHQQ", 1, 16, len(content), len(data)) if zip64 else b""
        sizes = (_UNKNOWN32, _UNKNOWN32) if zip64 else (len(data), len(content))
        header = struct.pack(
            "<4sHHHHHLLLHH", b"PK\x03\x04", 45, 0, method, 0, 33, crc, *sizes, len(encoded), len(extra)
        )
        part, offset = append(header + encoded + extra, whole=True)
        append(data, whole=False)
        written.append(_Written(encoded, method, crc, len(data), len(content), part, offset))
    _append_directory(parts, append, written, zip64=zip64, comment=comment)
    return [bytes(part) for part in parts]


def _append_directory(parts, append, written, *, zip64, comment) -> None:
    entries = [_entry(member, zip64=zip64) for member in written]
    first = None
    for entry in entries:
        place = append(entry, whole=True)
        first = first or place
    size, (part, offset) = sum(map(len, entries)), first
    if zip64:
        last = len(parts) - 1
        end64 = struct.pack(
            "<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, last, part, len(entries), len(entries), size, offset
        )
        at = append(end64, whole=True)
        append(struct.pack("<4sLQL", b"PK\x06\x07", at[0], at[1], len(parts)), whole=True)
        counts = (_UNKNOWN16, _UNKNOWN16, _UNKNOWN16, _UNKNOWN16, _UNKNOWN32, _UNKNOWN32)
    else:
        counts = (len(parts) - 1, part, len(entries), len(entries), size, offset)
    append(struct.pack("<4sHHHHLLH", b"PK\x05\x06", *counts, len(comment)) + comment, whole=True)


def _entry(member: _Written, *, zip64: bool) -> bytes:
    sizes, offset, extra = (member.compressed, member.size), member.offset, b""
    if zip64:
        extra = struct.pack("<HHQQQ", 1, 24, member.size, member.compressed, member.offset)
        sizes, offset = (_UNKNOWN32, _UNKNOWN32), _UNKNOWN32
    head = struct.pack("<4sHHHHHHLLL", b"PK\x01\x02", 45, 45, 0, member.method, 0, 33, member.crc, *sizes)
    tail = struct.pack("<HHHHHLL", len(member.name), len(extra), 0, member.part, 0, 0, offset)
    return head + tail + member.name + extra
