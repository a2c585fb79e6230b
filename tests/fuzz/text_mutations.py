"""Damaging text as text files suffer: separators, quotes, line ends, encodings, headers, cells that are no numbers."""

import codecs
import gzip
import re
from collections.abc import Callable

from tests.fuzz.mutations import BLIND, Random, place_in


def damage_text(data: bytes, random: Random) -> bytes:
    """The text ``data`` after one to three kinds of damage that text files suffer."""
    for _ in range(int(random.integers(1, 4))):
        data = _TEXT[int(random.integers(len(_TEXT)))](data, random)
    return data


def _line_ends(data: bytes, random: Random) -> bytes:
    ends = (b"\r", b"\r\n", b"\n\n", b"\n\r", b"", b"\x0b", b"\x85", b"\xe2\x80\xa8")
    return data.replace(b"\r\n", b"\n").replace(b"\n", ends[int(random.integers(len(ends)))])


def _recode(data: bytes, random: Random) -> bytes:
    text = data.decode("utf-8", errors="replace")
    encodings = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030", "latin-1", "cp1252", "utf-7", "shift-jis")
    return text.encode(encodings[int(random.integers(len(encodings)))], errors="replace")


def _wrap(data: bytes, random: Random) -> bytes:
    packed = gzip.compress(data, mtime=0)
    forms = (
        packed,
        packed[: len(packed) // 2],
        codecs.BOM_UTF8 + data,
        codecs.BOM_UTF16_LE + data,
        b"PK\x03\x04" + data,
    )
    return forms[int(random.integers(len(forms)))]


def _separators(data: bytes, random: Random) -> bytes:
    marks = (b",", b"\t", b";", b"|", b" ", b"  ", b", ", b"::", b"\0", b"\xef\xbc\x8c")
    old = marks[int(random.integers(3))]
    return data.replace(old, marks[int(random.integers(len(marks)))], -1 if random.random() < 0.6 else 1)


def _cells(data: bytes, random: Random) -> bytes:
    """Some numbers or words become something else."""
    odd = (
        b"", b" ", b"-1", b"0", b"+5", b"007", b"1.0", b"1.5", b"1e3", b"1.2E+12", b"nan", b"inf", b"NULL", b"None",
        b"true", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"18446744073709551615",
        b"99999999999999999999999", b"1000000000000000000", b"2023-01-05", b"2023-01-05 10:00:00",
        b"2023-01-05T10:00:00.123Z", b"1_000", b"1,000", b"0x10", b"\xd9\xa1\xd9\xa2", b"\xef\xbc\x91", b'"', b'""',
        b'"1"', b"'1'", b"1\x00", b"\x1b]0;x\x07", b"\x1b[31m", b"=cmd()", b"\xff", b"\xc3", b"1 2", b"1\r2",
        b"1\n2", b"x" * 3000,
    )  # fmt: skip
    words = list(re.finditer(rb"[^\s,;\t]+", data))
    for _ in range(int(random.integers(1, 4))) if words else ():
        word = words[int(random.integers(len(words)))]
        data = data[: word.start()] + odd[int(random.integers(len(odd)))] + data[word.end() :]
    return data


def _quotes(data: bytes, random: Random) -> bytes:
    marks = (b'"', b"'", b'""', b'"\n', b'\r\n"', b',"', b'",', b"\\")
    for _ in range(int(random.integers(1, 4))):
        at = place_in(data, random)
        data = data[:at] + marks[int(random.integers(len(marks)))] + data[at:]
    return data


def _lines(data: bytes, random: Random) -> bytes:
    """Lines swapped, repeated, joined, lost, or made very long."""
    lines = data.split(b"\n")
    a, b = (int(random.integers(len(lines))) for _ in range(2))
    fate = int(random.integers(6))
    if fate == 0:
        lines[a], lines[b] = lines[b], lines[a]
    elif fate == 1:
        lines[a:a] = [lines[b]] * int(random.integers(1, 30))
    elif fate == 2:
        lines[a] += lines.pop(b) if len(lines) > 1 and a < len(lines) - 1 and a != b else b""
    elif fate == 3:
        lines[a] *= int(2 ** random.uniform(1, 12))
    elif fate == 4:
        del lines[min(a, b) : max(a, b)]
    else:
        lines[a] = lines[a][: len(lines[a]) // 2]
    return b"\n".join(lines)


def _columns(data: bytes, random: Random) -> bytes:
    """A column is put in front, behind, taken out, or moved."""
    mark = b"\t" if b"\t" in data else b","
    rows = [line.split(mark) for line in data.split(b"\n")]
    at, fate = int(random.integers(3)), int(random.integers(4))
    for number, row in enumerate(rows):
        if fate == 0:
            row.insert(0, b"" if not number else b"%d" % (number - 1))
        elif fate == 1:
            row.append(b"x" if random.random() < 0.5 else b"5")
        elif fate == 2 and len(row) > at:
            del row[at]
        elif fate == 3:
            row.reverse()
    return b"\n".join(mark.join(row) for row in rows)


def _header(data: bytes, random: Random) -> bytes:
    headers = (
        b"user,item,timestamp", b"user_id,item_id,rating,timestamp", b"item,user,time", b"item_id,title",
        b"title,item", b"id", b"", b"# comment", b"item\ttitle", b",item,title", b"userId,movieId,rating,timestamp",
        b"user_id:token\titem_id:token", b"sep=;", b"user,user,item", b"a,b,c,d,e,f,g",
    )  # fmt: skip
    header = headers[int(random.integers(len(headers)))]
    return header + (b"\n" + data if random.random() < 0.5 else data[data.find(b"\n") :])


def _empty(data: bytes, random: Random) -> bytes:
    forms = (
        b"",
        b"\n",
        b" \n \n",
        b"\0" * 100,
        codecs.BOM_UTF8,
        b'"',
        data[: data.find(b"\n") + 1],
        b"\r",
        b",,\n,,\n",
    )
    return forms[int(random.integers(len(forms)))]


def _blind(data: bytes, random: Random) -> bytes:
    return BLIND[int(random.integers(len(BLIND)))](data, random)


_TEXT: list[Callable[[bytes, Random], bytes]] = [
    _line_ends, _recode, _wrap, _separators, _cells, _cells, _cells, _quotes, _quotes, _lines, _columns, _header,
    _blind, _empty,
]  # fmt: skip
