"""Reading of hand-written TOML: files, ``key=value`` overrides and single values."""

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microlens.errors import InputError, has_surrogates, shown

LARGEST_FILE = 2**16
LONGEST_LINE = 2**13  # the parser's time is quadratic in the length of dotted keys
DEEPEST = 32
_INT64 = 2**63


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: the file is missing, unreadable or too large, or is not UTF-8 or not TOML.
    """
    content = _content(path)
    for number, line in enumerate(content.splitlines(), 1):
        if len(line) > LONGEST_LINE:
            raise InputError(
                f"{path}, line {number}, has more than {LONGEST_LINE:,} bytes, which is too long for a configuration."
            )
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        number = 1 + content[: error.start].count(b"\n")
        raise InputError(f"{path}, line {number}, is not UTF-8; a configuration is a TOML file in UTF-8.") from None
    except RecursionError:
        raise InputError(_too_deep(path)) from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}.") from None
    except ValueError:  # raised by int()
        raise InputError(f"{path} holds an integer of more than 64 bits.") from None


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; a configuration is a TOML file such as those in configs/.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; name a TOML file such as those in configs/.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    if len(content) > LARGEST_FILE:
        raise InputError(f"{path} is not a configuration: it has more than {LARGEST_FILE:,} bytes.")
    return content


def toml_value(text: str) -> Any:
    """Parse a TOML value; text that is not TOML is returned as a string, so that shells need no nested quotes.

    Raises:
        InputError: there is more than one value, or text that is not TOML has several lines.
    """
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        if len(text.splitlines()) > 1:
            raise InputError(f"{shown(text)} has several lines; one value is accepted.") from None
        return text
    if len(table) > 1:
        raise InputError(f"{shown(text)} is more than one value; one is accepted.")
    return table["value"]


def check_values(path: Path, table: dict[str, Any]) -> None:
    """Reject values that no option accepts and that later steps cannot handle.

    Raises:
        InputError: a number is not finite or has more than 64 bits, text is not valid Unicode or contains a NUL, or
            tables and lists are nested too deeply; the message names the key.
    """
    _check(path, "", table, DEEPEST)


def _check(path: Path, key: str, value: Any, deepest: int) -> None:
    if isinstance(value, (dict, list)):
        if not deepest:
            raise InputError(_too_deep(path))
        named = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in named:
            inside = f"{key}.{name}" if key else str(name)
            _check_text(path, inside, str(name))
            _check(path, inside, inner, deepest - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{path}: {key} is {value}; it must be a finite number.")
    elif isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise InputError(f"{path}: {key} is an integer of more than 64 bits.")
    elif isinstance(value, str):
        _check_text(path, key, value)


def _check_text(path: Path, key: str, text: str) -> None:
    if "\0" in text or has_surrogates(text):
        raise InputError(f"{path}: {key} is {shown(text)}; text must be UTF-8 without NUL.")


def _too_deep(path: Path) -> str:
    return f"{path} nests tables or lists more than {DEEPEST} deep, which is too deep for a configuration."


def flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested tables by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        flat |= flattened(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
