"""Arrays on disk with one row per item, written in pieces and read by row number."""

import os
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from microlens.data.arrays import read_header
from microlens.data.interactions import Int64
from microlens.errors import InputError

_REMEDY = "remove its folder to compute it again"


class Rows:
    """Reads rows of a ``.npy`` file with ``preadv``, several times faster than a memory map with cold pages.

    Raises:
        InputError: the file is missing, truncated, or not an array in row-major order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        header = read_header(path, remedy=_REMEDY)
        self.shape, self.dtype, self._start = header.shape, header.dtype, header.start
        if header.by_column or not self.shape or not self.dtype.isnative:
            raise InputError(f"{path} is not an array in row-major order; {_REMEDY}.")
        self._row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return int(self.shape[0])

    def read(self, rows: Int64, pool: ThreadPoolExecutor | None = None) -> npt.NDArray[Any]:
        """Read ``rows`` (M,) into one array (M, ...), in parallel if a pool is given."""
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        flat = values.reshape(len(rows), -1).view(np.uint8)

        def read_one(index: int) -> None:
            at = self._start + int(rows[index]) * self._row_bytes
            if os.preadv(self._file, [flat[index].data], at) != self._row_bytes:
                raise InputError(f"{self.path} is truncated; {_REMEDY}.")

        for _ in (pool.map if pool else map)(read_one, range(len(rows))):
            pass
        return values


class RowWriter:
    """Writes pieces of a ``.npy`` array of known shape, in any order; a context manager.

    Several processes may write to the same file.

    ``end`` is the byte offset after the last written piece.

    Args:
        path: file to write; created if it does not exist.
        shape: shape of the whole array.
        dtype: dtype of the array.
    """

    def __init__(self, path: Path, shape: Sequence[int], dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": tuple(shape)}
        # All processes write the same header, and none truncates the file.
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "rb+")
        np.lib.format.write_array_header_1_0(self._file, header)
        self._start = self.end = self._file.tell()
        self._row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * self.dtype.itemsize

    def write(self, first: int, values: npt.NDArray[Any]) -> None:
        """Write ``values`` (m, ...) to the rows from ``first`` on."""
        self._file.seek(self._start + first * self._row_bytes)
        self._file.write(np.ascontiguousarray(values, self.dtype).data)
        self.end = self._file.tell()

    def sync(self) -> None:
        """Flush everything written so far to disk, so that it survives a power failure."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.sync()
        finally:
            self._file.close()
