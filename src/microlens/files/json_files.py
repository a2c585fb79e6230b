"""Reading of JSON files written by this package, with validation of keys and types."""

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from microlens.errors import InputError

T = TypeVar("T")
_LONGEST_KEY = 80


def read_json(path: Path, kind: type[T], remedy: str) -> T:
    """Read a JSON file as ``kind``: a pydantic model, a dataclass, or a type such as ``dict[str, int]``.

    Args:
        path: the file.
        kind: type of its contents, validated strictly.
        remedy: what the user can do about a damaged file, as the end of a sentence.

    Raises:
        InputError: the file is missing or not JSON, lacks a key, or has a value of another type; the message names the
            first error.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is missing; {remedy}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {remedy}.") from None
    return parse_json(text, kind, path, remedy)


def parse_json(text: str | bytes, kind: type[T], path: Path, remedy: str) -> T:
    """Like :func:`read_json`, for JSON that has already been read from ``path``."""
    try:
        content: T = _adapter(kind).validate_json(text, strict=True)  # type: ignore[arg-type]  # a type is hashable
    except ValidationError as error:
        raise InputError(f"{path} is damaged ({_first_fault(error)}); {remedy}.") from None
    return content


def resumed_log(path: Path, kind: type[T]) -> Iterator[T]:
    """The entries of a log with one JSON object a line, to which an interrupted program appends again.

    Lines that are not of ``kind`` are left out. A last line without an end, which a kill may leave, is cut off.

    Args:
        path: the log; it need not exist.
        kind: type of an entry, as in :func:`read_json`.
    """
    content = path.read_bytes() if path.exists() else b""
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.truncate(path, end)
    for line in content[:end].splitlines():
        with suppress(InputError):
            yield parse_json(line, kind, path, "the line is left out")


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    key = ".".join(map(str, fault["loc"]))[:_LONGEST_KEY]
    message = fault["msg"].removeprefix("Value error, ")
    if not key:
        return message
    return f"{key} is missing" if fault["type"] == "missing" else f"{key}: {message}"
