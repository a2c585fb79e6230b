"""Names, options and descriptions of models and encoders, for ``microlens list``.

Those of this package are stored in ``options.json``, because their signatures cannot be read without importing PyTorch,
which takes seconds. ``python -m tests.option_lists`` writes the file; a test fails while it differs from the code.
"""

import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import MISSING
from importlib import import_module, resources
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from microlens.errors import InputError

if TYPE_CHECKING:
    from microlens.building.registry import Registry

Kind: TypeAlias = Literal["models", "encoders"]
OptionRow: TypeAlias = tuple[str, str, str]  # name, options, description

STORED = "options.json"
_REGISTRIES: dict[Kind, tuple[str, str]] = {
    "models": ("microlens.recommenders", "RECOMMENDER_REGISTRY"),
    "encoders": ("microlens.encoders", "ENCODER_REGISTRY"),
}
"""The module of each registry, which is also its group of entry points, and its name there."""


def option_rows(kind: Kind) -> Iterator[OptionRow]:
    """The rows of this package's own models or encoders, then those of other packages' entry points."""
    stored = json.loads(resources.files("microlens.cli").joinpath(STORED).read_text(encoding="utf-8"))
    yield from map(tuple, stored[kind])
    if entry_points(group=_REGISTRIES[kind][0]):
        yield from offered_rows(registry_of(kind))


def registry_of(kind: Kind) -> "Registry[Any]":
    """The registry of models or encoders; imports PyTorch."""
    module, name = _REGISTRIES[kind]
    registry: Registry[Any] = getattr(import_module(module), name)
    return registry


def own_rows(registry: "Registry[Any]") -> Iterator[OptionRow]:
    """The rows of a registry's own constructors, from their signatures and docstrings."""
    for name, constructor in registry.own.items():
        yield name, *_options_and_description(constructor)


def offered_rows(registry: "Registry[Any]") -> Iterator[OptionRow]:
    """The rows of the entry points of other packages, with the name of the package; or why one cannot be used."""
    from microlens.building.registry import package_of

    for name, entries in sorted(registry.offered().items()):
        packages = ", ".join(sorted({package_of(entry) for entry in entries}))
        try:
            cells = _options_and_description(registry.load(entries, "name"))
        except InputError as error:
            cells = "-", f"cannot be used: {error}"
        yield f"{name} (of {packages})", *cells


def _options_and_description(constructor: Callable[..., Any]) -> tuple[str, str]:
    from microlens.building import options_of
    from microlens.runs.assembly import GIVEN

    options = [
        option if schema.default is MISSING else f"{option} = {json.dumps(schema.default, default=str)}"
        for option, schema in options_of(constructor, GIVEN).items()
    ]
    return ", ".join(options) or "-", (inspect.getdoc(constructor) or "").partition("\n")[0]
