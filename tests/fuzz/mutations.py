"""Damaging bytes and text: everything is decided by a random generator, so that a case can be made again."""

import codecs
import gzip
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Random = np.random.Generator

NUMBERS = (0, 1, 2, 3, 7, 8, 16, 64, 100, 127, 128, 255, 256, 1000, 4096, 32767, 32768, 65500, 65535, 65536, 2**24)
LARGE_NUMBERS = (2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


def damage(data: bytes, random: Random, others: Sequence[bytes] = (), tokens: Sequence[bytes] = ()) -> bytes:
    """``data`` after one to four kinds of damage.

    Args:
        data: a file.
        random: decides everything.
        others: files to splice with.
        tokens: words of the format, such as the names of its parts.
    """
    kinds = [
        *_BLIND,
        lambda data, random: _token(data, random, tokens),
        lambda data, random: _splice(data, random, others),
    ]
    for _ in range(int(random.integers(1, 5))):
        data = kinds[int(random.integers(len(kinds)))](data, random)
    return data


def damage_text(data: bytes, random: Random) -> bytes:
    """The text ``data`` after one to three kinds of damage that text files suffer."""
    for _ in range(int(random.integers(1, 4))):
        data = _TEXT[int(random.integers(len(_TEXT)))](data, random)
    return data


def damage_json(value: Any, random: Random) -> Any:
    """A copy of a JSON or TOML value in which one entry, at any depth, is replaced, renamed or gone."""
    value = json.loads(json.dumps(value, default=str))
    places = list(_places(value))
    if not places:
        return odd_value(random)
    holder, key = places[int(random.integers(len(places)))]
    fate = int(random.integers(6))
    if fate == 0:
        del holder[key]
    elif fate == 1 and isinstance(holder, dict):
        holder[misspelt(str(key), random)] = holder.pop(key)
    elif fate == 2:
        other, name = places[int(random.integers(len(places)))]
        holder[key] = json.loads(json.dumps(other[name])) if name in _keys(other) else odd_value(random)
    elif fate == 3 and isinstance(holder[key], (int, float)):
        holder[key] = -holder[key] if random.integers(2) else holder[key] * 10 ** int(random.integers(1, 300))
    else:
        holder[key] = odd_value(random)
    return value


def odd_value(random: Random) -> Any:
    """A value that is hardly ever right."""
    values: list[Any] = [
        0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**12, 0.0, -0.0, 1e308, 1e-320, float("nan"), float("inf"), True,
        False, "", " ", "0", "nan", "x" * 5000, "\x1b]0;owned\x07", "a\nb", "\u202e", "é", "../../x", "/", "/dev/null",
        "nul\0l", [], [[]], {}, {"": {}}, [1, "a", None], {"name": "id"}, None,
    ]  # fmt: skip
    return values[int(random.integers(len(values)))]


def misspelt(name: str, random: Random) -> str:
    """A name with a letter gone, doubled, changed, or in capitals."""
    if not name:
        return "x"
    at = int(random.integers(len(name)))
    forms = (
        name[:at] + name[at + 1 :],
        name[:at] + name[at] + name[at:],
        name[:at] + "x" + name[at + 1 :],
        name.upper(),
    )
    return forms[int(random.integers(4))]


def _keys(holder: Any) -> Any:
    return holder if isinstance(holder, dict) else range(len(holder))


def _places(value: Any) -> Any:
    """Every (container, key) in a tree of dicts and lists."""
    if isinstance(value, (dict, list)):
        for key in list(_keys(value)):
            yield value, key
            yield from _places(value[key])


def _place(data: bytes, random: Random) -> int:
    """A position, at the head, where formats keep what matters, more often than elsewhere; the tail as well."""
    length = max(1, len(data))
    kind = random.random()
    if kind < 0.4:
        return int(random.integers(min(length, 256)))
    if kind < 0.55:
        return length - 1 - int(random.integers(min(length, 1024)))
    return int(random.integers(length))


def _block(data: bytes, random: Random) -> tuple[int, int]:
    start = _place(data, random)
    return start, min(len(data), start + int(2 ** random.uniform(0, 11)))


def _flip_bits(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(int(2 ** random.uniform(0, 5))) if changed else ():
        changed[_place(data, random)] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _set_bytes(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(int(2 ** random.uniform(0, 4))) if changed else ():
        changed[_place(data, random)] = int(random.integers(256))
    return bytes(changed)


def _cut(data: bytes, random: Random) -> bytes:
    at = _place(data, random)
    return data[at:] if random.random() < 0.1 else data[:at]


def _remove(data: bytes, random: Random) -> bytes:
    start, end = _block(data, random)
    return data[:start] + data[end:]


def _fill(data: bytes, random: Random) -> bytes:
    start, end = _block(data, random)
    return data[:start] + (b"\0", b"\xff")[int(random.integers(2))] * (end - start) + data[end:]


def _repeat(data: bytes, random: Random) -> bytes:
    start, end = _block(data, random)
    return data[:end] + data[start:end] * int(random.integers(1, 9)) + data[end:]


def _swap(data: bytes, random: Random) -> bytes:
    (a, b), (c, d) = sorted((_block(data, random), _block(data, random)))
    b = min(b, c)
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _insert(data: bytes, random: Random) -> bytes:
    at = _place(data, random)
    return data[:at] + random.bytes(int(2 ** random.uniform(0, 9))) + data[at:]


def _number(data: bytes, random: Random) -> bytes:
    width = (1, 2, 4, 8)[int(random.integers(4))]
    at = _place(data, random)
    numbers = NUMBERS + LARGE_NUMBERS
    number = numbers[int(random.integers(len(numbers)))] % 256**width
    order: Any = ("little", "big")[int(random.integers(2))]
    return data[:at] + number.to_bytes(width, order) + data[at + width :]


def _token(data: bytes, random: Random, tokens: Sequence[bytes]) -> bytes:
    """A word of the format put where another of them stands, or anywhere."""
    if not tokens:
        return _number(data, random)
    token = tokens[int(random.integers(len(tokens)))]
    found = [match.start() for other in tokens for match in re.finditer(re.escape(other), data)]
    at = found[int(random.integers(len(found)))] if found and random.random() < 0.7 else _place(data, random)
    return data[:at] + token + data[at + (len(token) if random.random() < 0.8 else 0) :]


def _splice(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    if not others:
        return _swap(data, random)
    other = others[int(random.integers(len(others)))]
    return data[: _place(data, random)] + other[_place(other, random) :]


_BLIND: list[Callable[[bytes, Random], bytes]] = [
    _flip_bits, _flip_bits, _set_bytes, _cut, _remove, _fill, _repeat, _swap, _insert, _number, _number,
]  # fmt: skip


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
        at = _place(data, random)
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
    return _BLIND[int(random.integers(len(_BLIND)))](data, random)


_TEXT: list[Callable[[bytes, Random], bytes]] = [
    _line_ends, _recode, _wrap, _separators, _cells, _cells, _cells, _quotes, _quotes, _lines, _columns, _header,
    _blind, _empty,
]  # fmt: skip
