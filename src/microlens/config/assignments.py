"""Assignments ``key=value`` that override a configuration."""

import tomllib
from typing import Any

from microlens.config.toml_files import LONGEST_LINE, toml_value
from microlens.errors import InputError, one_line


def assign(table: dict[str, Any], assignment: str) -> None:
    """Set one ``key = value`` in a table; the key is written as in TOML, dotted and possibly quoted.

    Raises:
        InputError: it is not a single key and value, or a part of the key is not a table.
    """
    said = f"assignment {one_line(assignment, 100)}"
    if len(assignment) > LONGEST_LINE:
        raise InputError(f"{said}: at most {LONGEST_LINE:,} characters are accepted.")
    key, text = _halves(assignment)
    if not key:
        raise InputError(f"{said}: expected key=value, such as train.lr=1e-3.")
    for section in key[:-1]:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise InputError(f"{said}: '{section}' is not a table.")
    try:
        table[key[-1]] = toml_value(text.strip())
    except InputError as error:
        raise InputError(f"{said}: expected one key=value: {error}") from None


def _halves(assignment: str) -> tuple[list[str], str]:
    """Split into the names of the dotted key and the text after its ``=``; no names if there is no such key."""
    index = assignment.find("=")
    while index >= 0:  # a quoted key may contain an equals sign
        before, after = assignment[:index], assignment[index + 1 :]
        names = _names(before)
        if names:
            return names, after
        index = assignment.find("=", index + 1)
    return [], ""


def _names(key: str) -> list[str]:
    if len(key.splitlines()) > 1 or key.lstrip().startswith(("[", "#")):
        return []
    try:
        found: Any = tomllib.loads(f"{key} = 0")
    except (ValueError, RecursionError):
        return []
    names = []
    while isinstance(found, dict) and found:
        (name,) = found
        names.append(name)
        found = found[name]
    return names
