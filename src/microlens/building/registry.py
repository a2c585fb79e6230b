"""Finding constructors by name: registered in this package, by entry point, or by import path."""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

from microlens.building import nearest
from microlens.errors import InputError, shown

T = TypeVar("T")


@dataclass(frozen=True)
class Registry(Generic[T]):
    """The constructors of one kind that a configuration can name.

    A name is looked up in ``own``, then among the entry points of ``group``, then, if it contains a colon, as an import
    path ``package.module:Class``. A constructor is a subclass of ``kind``, or a function whose annotated return type is
    one. Nothing else is called, whatever a configuration names.

    Args:
        own: constructors of this package by name.
        kind: base class.
        word: name of the kind in messages, such as "recommender".
        group: group of entry points.
        document: page that explains how to write one.
    """

    own: Mapping[str, Callable[..., T]]
    kind: type[Any]
    word: str
    group: str
    document: str

    def find(self, name: object, where: str) -> Callable[..., T]:
        """Find the constructor with this name.

        Args:
            name: value in the configuration.
            where: key in the configuration, for messages.

        Raises:
            InputError: the name is unknown, its module or entry point cannot be imported, or it constructs something
                else.
        """
        if not isinstance(name, str):
            raise InputError(f"{where} is {shown(name)}, which is unknown; {nearest('', self.own)}")
        if name in self.own:
            return self.own[name]
        entries = self.offered()
        if name in entries:
            return self.load(entries[name], where)
        if ":" in name:
            _make_working_folder_importable()
            return self._checked(name, f"{where} is '{name}'")
        told = nearest(name, [*self.own, *entries])
        if told.startswith("accepted"):
            told = f"{told.removesuffix('.')}, or an import path, package.module:Class."
        raise InputError(f"{where} is '{name}', which is unknown; {told}")

    def offered(self) -> dict[str, list[EntryPoint]]:
        """The entry points of installed packages by name, without names in ``own``."""
        offered: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=self.group):
            if entry.name not in self.own:
                offered.setdefault(entry.name, []).append(entry)
        return offered

    def load(self, entries: list[EntryPoint], where: str) -> Callable[..., T]:
        """Load the constructor of the entry points with one name.

        Raises:
            InputError: several packages have different entry points with this name, it cannot be imported, or it
                constructs something else.
        """
        entry, *others = entries
        if any(other.value != entry.value for other in others):
            packages = " and ".join(sorted({package_of(entry) for entry in entries}))
            raise InputError(
                f"{where} is '{entry.name}', an entry point of {packages}; choose one by its import path, such as "
                f"'{entry.value}'."
            )
        return self._checked(
            f"{entry.module}:{entry.attr}", f"{where} is '{entry.name}', an entry point of {package_of(entry)}"
        )

    def _checked(self, path: str, said: str) -> Callable[..., T]:
        found: Any = _import(path, said, self._accepts)
        name = getattr(found, "__qualname__", shown(found))
        if not self._accepts(found):
            accepted = f"a subclass of {self.kind.__name__}, or a function annotated as returning one"
            raise InputError(f"{said}, but {name} is no {self.word}; accepted: {accepted}.")
        missing = sorted(getattr(_constructed(found), "__abstractmethods__", ()))
        if missing:
            every = f"which every {self.word} must; see {self.document}"
            raise InputError(f"{said}, but {name} does not define {' and '.join(missing)}, {every}.")
        constructor: Callable[..., T] = found
        return constructor

    def _accepts(self, found: object) -> bool:
        constructed = _constructed(found)
        return isinstance(constructed, type) and issubclass(constructed, self.kind)


def path_of(constructor: Callable[..., Any]) -> str:
    """The import path of a class or function, ``package.module:Class``; ``__main__:Class`` if defined in a script.

    Raises:
        InputError: it is defined inside a function and has no import path.
    """
    module, name = constructor.__module__, constructor.__qualname__
    if "<" in name:
        raise InputError(f"{name} is defined inside a function; define it at the top level of a module.")
    return f"{module}:{name}"


def package_of(entry: EntryPoint) -> str:
    """The name of the package that declares an entry point."""
    return entry.dist.name if entry.dist else entry.module


def _constructed(found: object) -> object:
    """The class that ``found`` constructs, according to its annotations."""
    if not inspect.isfunction(found):
        return found
    try:
        return get_type_hints(found).get("return")
    except (NameError, TypeError, SyntaxError):
        return None


def _import(path: str, said: str, accepts: Callable[[object], bool]) -> object:
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        told = f"{type(error).__name__}: {error}"
        raise InputError(f"{said}, but the module '{module_name}' cannot be imported ({told}).") from error
    try:
        return attrgetter(name)(module)
    except AttributeError:
        if module_name == "__main__":
            advice = "a class defined in a script exists only in that script; move it to a module."
        else:
            advice = nearest(name, _names(vars(module), accepts))
        raise InputError(f"{said}, but the module '{module_name}' has no '{name}'; {advice}") from None


def _make_working_folder_importable() -> None:
    """Put the working directory first on the module search path, as ``python -m`` does."""
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)


def _names(namespace: Mapping[str, object], accepts: Callable[[object], bool]) -> Iterator[str]:
    return (name for name, value in namespace.items() if not name.startswith("_") and accepts(value))
