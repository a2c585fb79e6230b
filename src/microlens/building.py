"""From a table of options to an object: a constructor's signature is the schema of its options."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from microlens.errors import InputError

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """`` ; did you mean 'x'?`` where a known name is close, else the list of what is accepted."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"accepted: {', '.join(names) or 'nothing'}."


def pick(table: Mapping[str, T], name: object, where: str) -> T:
    """The entry ``name`` of ``table``.

    Raises:
        InputError: there is none; names the nearest.
    """
    if not isinstance(name, str) or name not in table:
        raise InputError(f"{where} is '{name}', which is unknown; {nearest(str(name), table)}")
    return table[name]


def build(constructor: Callable[..., T], options: Mapping[str, Any], world: Mapping[str, Any], where: str) -> T:
    """Call ``constructor`` with the user's ``options`` and with what it asks for of ``world``.

    Args:
        constructor: its keyword-only parameters are either in ``world`` or options.
        options: from a config; checked against the annotations.
        world: what the data gives (sizes, tables), by parameter name.
        where: the config table the options come from, for messages.

    Raises:
        InputError: an option is unknown, missing, or of the wrong type.
    """
    parameters = inspect.signature(constructor).parameters
    hints = get_type_hints(constructor if inspect.isfunction(constructor) else constructor.__init__)
    accepted = [name for name in parameters if name not in world]
    arguments = {name: world[name] for name in parameters if name in world}
    for name, value in options.items():
        if name not in accepted:
            raise InputError(f"{where}.{name} is unknown; {nearest(name, accepted)}")
        try:
            arguments[name] = TypeAdapter(hints[name]).validate_python(value, strict=True)
        except ValidationError as error:
            raise InputError(f"{where}.{name} is {value!r}: {error.errors()[0]['msg'].lower()}.") from None
    for name in accepted:
        if name not in arguments and parameters[name].default is inspect.Parameter.empty:
            raise InputError(f"{where}.{name} is missing.")
    try:
        return constructor(**arguments)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{where}: {error}.") from None
