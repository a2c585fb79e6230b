"""Damaging bytes and values: everything is decided by a random generator, so that a case can be made again."""

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
        *BLIND,
        lambda data, random: _token(data, random, tokens),
        lambda data, random: _splice(data, random, others),
    ]
    for _ in range(int(random.integers(1, 5))):
        data = kinds[int(random.integers(len(kinds)))](data, random)
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


def place_in(data: bytes, random: Random) -> int:
    """A position, at the head, where formats keep what matters, more often than elsewhere; the tail as well."""
    length = max(1, len(data))
    kind = random.random()
    if kind < 0.4:
        return int(random.integers(min(length, 256)))
    if kind < 0.55:
        return length - 1 - int(random.integers(min(length, 1024)))
    return int(random.integers(length))


def _block(data: bytes, random: Random) -> tuple[int, int]:
    start = place_in(data, random)
    return start, min(len(data), start + int(2 ** random.uniform(0, 11)))


def _flip_bits(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(int(2 ** random.uniform(0, 5))) if changed else ():
        changed[place_in(data, random)] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _set_bytes(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(int(2 ** random.uniform(0, 4))) if changed else ():
        changed[place_in(data, random)] = int(random.integers(256))
    return bytes(changed)


def _cut(data: bytes, random: Random) -> bytes:
    at = place_in(data, random)
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
    at = place_in(data, random)
    return data[:at] + random.bytes(int(2 ** random.uniform(0, 9))) + data[at:]


def _number(data: bytes, random: Random) -> bytes:
    width = (1, 2, 4, 8)[int(random.integers(4))]
    at = place_in(data, random)
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
    at = found[int(random.integers(len(found)))] if found and random.random() < 0.7 else place_in(data, random)
    return data[:at] + token + data[at + (len(token) if random.random() < 0.8 else 0) :]


def _splice(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    if not others:
        return _swap(data, random)
    other = others[int(random.integers(len(others)))]
    return data[: place_in(data, random)] + other[place_in(other, random) :]


BLIND: list[Callable[[bytes, Random], bytes]] = [
    _flip_bits, _flip_bits, _set_bytes, _cut, _remove, _fill, _repeat, _swap, _insert, _number, _number,
]  # fmt: skip
