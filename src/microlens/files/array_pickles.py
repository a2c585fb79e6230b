"""Reading of pickles that hold numpy arrays in plain containers, or one plain object, without running code from them.

Pickles are programs that may call anything by its name. Here, every name stands for a function of this module, and only
the names that numpy writes for arrays, data types and scalars are known.
"""

import io
import pickle
from collections.abc import Callable, Container, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microlens.errors import InputError

NUMERIC_KINDS = "biufc"  # booleans, integers, floating-point and complex numbers


def read_arrays(path: Path) -> Any:
    """Read a pickle of numeric numpy arrays, numbers, strings, bytes, None, and dicts, lists and tuples of these.

    Raises:
        InputError: the file names anything else, such as a function or a class, or is damaged.
    """
    try:
        with path.open("rb") as file:
            return _finished(_ArrayUnpickler(file, str(path)).load())
    except InputError:
        raise
    except Exception:  # damaged pickles raise almost anything
        raise InputError(f"{path} is not a complete pickle of numpy arrays; it is truncated or damaged.") from None


def read_record(content: bytes, classes: Container[str], name: str) -> dict[str, Any]:
    """Read a pickled object whose class has one of these names, in any module, as its attributes.

    Args:
        content: the pickle.
        classes: names of accepted classes.
        name: of the pickle, for messages.

    Returns:
        The attributes, which may be of any type that :func:`read_arrays` knows; arrays are unfinished builders.

    Raises:
        InputError: the pickle names anything else, is damaged, or holds something else.
    """
    try:
        record = _ArrayUnpickler(io.BytesIO(content), name, classes).load()
    except InputError:
        raise
    except Exception:  # damaged pickles raise almost anything
        raise InputError(f"{name} is not a complete pickle; it is truncated or damaged.") from None
    if not isinstance(record, _Record):
        raise InputError(f"{name} is a pickle of something else than expected.")
    return record.attributes


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, file: Any, path: str, classes: Container[str] = ()) -> None:
        super().__init__(file)
        self.path = path
        self.classes = classes
        self.accepted = "plain values" if classes else "numpy arrays in dicts and lists"

    def find_class(self, module: str, name: str) -> Any:
        """Return our own builder for a permitted name; anything else is refused."""
        if name in self.classes:
            return type(name, (_Record,), {})  # a new class each time, because a pickle may set attributes of it
        if module == "numpy" and name == "ndarray":
            return name  # an argument of _reconstruct, never called
        builder = _BUILDERS.get((module.replace("numpy.core.", "numpy._core."), name))
        if builder is None:
            raise InputError(
                f"{self.path} names {module}.{name}, which is not run; accepted are pickles of {self.accepted}."
            )
        return partial(builder)  # a new object each time, because a pickle may set attributes of what it is given

    def persistent_load(self, pid: Any) -> Any:
        raise InputError(f"{self.path} refers to the object {pid!r} outside of the file.")


class _Record:
    """An object of a permitted class: its attributes."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = dict(state)


class _DataType:
    """A data type, given by its name and, afterwards, its byte order."""

    def __init__(self, name: str, *_: object) -> None:
        self.dtype = np.dtype(str(name))
        if self.dtype.kind not in NUMERIC_KINDS:
            raise ValueError

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """An array, which numpy's pickles make empty and then give its content."""

    def __init__(self, *_: object) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, data_type, fortran_order, content = state
        self.value = _from_bytes(content, data_type, shape, "F" if fortran_order else "C")


def _from_bytes(content: bytes, data_type: _DataType, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    flat = np.frombuffer(content, data_type.dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C").copy(order="K")


def _scalar(data_type: _DataType, content: bytes) -> Any:
    return _from_bytes(content, data_type, (), "C")[()]


_BUILDERS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _DataType,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _from_bytes,
}


def _finished(tree: Any) -> Any:
    """``tree`` with arrays in place of the objects that built them; it may hold nothing that is not listed here."""
    if type(tree) is dict:
        return {_finished(key): _finished(value) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(map(_finished, tree))
    if type(tree) is _Array and tree.value is not None:
        return tree.value
    if tree is None or isinstance(tree, int | float | complex | str | bytes | bytearray | np.generic | np.ndarray):
        return tree
    raise ValueError
