"""From a table of options to an object: a constructor's signature is the schema of its options."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from microlens.errors import InputError
from microlens.printable import shown
from microlens.suggestions import nearest, nearest_option

T = TypeVar("T")

LARGEST = 65_536
"""The largest integer that an option takes: of what would be counted, no model has more."""


def pick(table: Mapping[str, T], name: object, where: str) -> T:
    """The entry ``name`` of ``table``.

    Raises:
        InputError: there is none; names the nearest.
    """
    if not isinstance(name, str) or name not in table:
        raise InputError(f"{where} is {_quoted(name)}, which is unknown; {nearest(str(name), table)}")
    return table[name]


def _quoted(name: object) -> str:
    return f"'{name}'" if isinstance(name, str) else shown(name)


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a constructor: its type, its default (MISSING where there is none), and whose it is.

    ``group`` is the parameter that takes the option as a field of its dataclass, None where the option is a parameter.
    """

    type: Any
    default: Any
    group: str | None = None


def options_of(constructor: Callable[..., Any], given: Iterable[str]) -> dict[str, Option]:
    """The options of ``constructor``: its parameters but those ``given``, dataclasses among them opened up."""
    hints = get_type_hints(constructor if inspect.isfunction(constructor) else constructor.__init__)
    options: dict[str, Option] = {}
    for name, parameter in inspect.signature(constructor).parameters.items():
        if name in given:
            continue
        if dataclasses.is_dataclass(hints[name]):
            types = get_type_hints(hints[name])
            options |= {
                field.name: Option(types[field.name], field.default, group=name)
                for field in dataclasses.fields(hints[name])
            }
        else:
            default = MISSING if parameter.default is inspect.Parameter.empty else parameter.default
            options[name] = Option(hints[name], default)
    return options


def build(constructor: Callable[..., T], options: Mapping[str, Any], world: Mapping[str, Any], where: str) -> T:
    """Call ``constructor`` with the user's ``options`` and with what it asks for of ``world``.

    Args:
        constructor: its keyword-only parameters are either in ``world`` or options; a parameter that is a dataclass
            takes options by the names of its fields.
        options: from a config; checked against the annotations.
        world: what the data gives (sizes, tables), by parameter name.
        where: the config table the options come from, for messages.

    Raises:
        InputError: an option is unknown, missing, or of the wrong type.
    """
    accepted = options_of(constructor, world)
    arguments = {name: world[name] for name in inspect.signature(constructor).parameters if name in world}
    grouped: dict[str, dict[str, Any]] = {option.group: {} for option in accepted.values() if option.group}
    for name, value in options.items():
        if name not in accepted:
            raise InputError(f"{where}.{name} is unknown; {nearest_option(name, accepted, where.partition('.')[0])}")
        option = accepted[name]
        checked = _checked(value, option, f"{where}.{name}")
        (grouped[option.group] if option.group else arguments)[name] = checked
    for name, option in accepted.items():
        if name not in options and option.default is MISSING:
            raise InputError(f"{where}.{name} is missing.")
    try:
        hints = get_type_hints(constructor if inspect.isfunction(constructor) else constructor.__init__)
        return constructor(**arguments, **{name: hints[name](**values) for name, values in grouped.items()})
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{where}: {error}.") from None


def _checked(value: object, option: Option, name: str) -> Any:
    """The value of an option, of its type and of a size that can be built."""
    try:
        checked = TypeAdapter(option.type).validate_python(value, strict=True)
    except ValidationError as error:
        raise InputError(f"{name} is {shown(value)}: {error.errors()[0]['msg'].lower()}.") from None
    if isinstance(checked, float) and not math.isfinite(checked):
        raise InputError(f"{name} is {checked}; it must be a finite number.")
    if isinstance(checked, int) and abs(checked) > LARGEST:
        raise InputError(f"{name} is {shown(value)}; it must be at most {LARGEST:,}.")
    return checked
