"""Writing ``.npy`` files in pieces, and opening them with validated headers and without pickle."""

import io
import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from microlens.errors import InputError

_HEADER_BYTES = 1 << 17  # larger than any header
_KINDS = {"numbers": "buif", "integers": "ui", "integers or text": "uiU"}  # of numpy's dtypes


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of a ``.npy`` file: shape, dtype, order, and the byte offset of the array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_column: bool
    start: int


def read_header(path: Path, *, remedy: str = "", content: str = "numbers") -> Header:
    """Read the header of a ``.npy`` file; check that the array is complete and has a plain dtype.

    Args:
        path: file to read.
        remedy: advice on a damaged file, which ends the message.
        content: expected content: "numbers", "integers" or "integers or text".

    Raises:
        InputError: the file is missing, is not a ``.npy`` array of ``content``, or its size contradicts its header.
    """
    end = f"; {remedy}." if remedy else "."
    try:
        with path.open("rb") as file:
            beginning, size = file.read(_HEADER_BYTES), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise InputError(f"{path} does not exist{end}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}{end}") from None
    try:
        header = _parsed(io.BytesIO(beginning))
    except Exception:  # numpy does not document which errors a damaged header raises
        raise InputError(f"{path} is not a .npy array of {content}{end}") from None
    if header.dtype.kind not in _KINDS[content] or not header.dtype.itemsize:
        raise InputError(f"{path} is not a .npy array of {content} but of {header.dtype}{end}")
    whole = header.start + math.prod(header.shape) * header.dtype.itemsize
    if min(header.shape, default=0) < 0 or size != whole:
        raise InputError(f"{path} has {size:,} bytes; a .npy array of shape {header.shape} needs {whole:,}{end}")
    return header


def open_array(
    path: Path, *, ndim: int, remedy: str = "", content: str = "numbers", dtype: npt.DTypeLike | None = None
) -> npt.NDArray[Any]:
    """Map a ``.npy`` file into memory, read-only.

    Args:
        path: file to map.
        ndim: expected number of axes; none may have size 0.
        remedy: advice on a damaged file, which ends the message.
        content: "numbers", "integers" or "integers or text", of any size.
        dtype: exact dtype expected, if given.

    Raises:
        InputError: as :func:`read_header`; or the array has another dtype or number of axes, or is empty.
    """
    header = read_header(path, remedy=remedy, content=content)
    end = f"; {remedy}." if remedy else "."
    if dtype is not None and header.dtype != dtype:
        raise InputError(f"{path} is an array of {header.dtype}; expected {np.dtype(dtype)}{end}")
    if len(header.shape) != ndim or 0 in header.shape:
        axes = f"{ndim} dimension{'s' if ndim > 1 else ''}"
        raise InputError(f"{path} has shape {header.shape}; expected {axes}, none of size 0{end}")
    return np.memmap(
        path, header.dtype, "r", offset=header.start, shape=header.shape, order="F" if header.by_column else "C"
    )


class ArrayWriter:
    """Writes a ``.npy`` array (n,) of unknown length in pieces; a context manager."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self._file, self._dtype, self._length = path.open("wb"), np.dtype(dtype), 0
        self._write_header()

    def append(self, values: npt.NDArray[Any]) -> None:
        """Append ``values`` (m,)."""
        np.ascontiguousarray(values, self._dtype).tofile(self._file)
        self._length += len(values)

    def _write_header(self) -> None:
        # NumPy leaves room in the header for any length.
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            self._file.seek(0)
            self._write_header()


def _parsed(file: io.BytesIO) -> Header:
    version = np.lib.format.read_magic(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers written by Python 2
        if version == (1, 0):
            shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
        elif version in ((2, 0), (3, 0)):
            shape, by_column, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(version)
    if dtype.hasobject:
        raise ValueError(dtype)
    return Header(shape=shape, dtype=dtype, by_column=by_column, start=file.tell())
