"""Sorting integers by one fast sort that keeps the order of equal ones."""

from typing import Any

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
_BITS = 63  # of a packed key


def sort_stably(keys: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """Sort ``keys`` (n,), integers or decimals: the sorted keys, and the index of each, equal keys in order: (n,) each.

    NumPy sorts 64-bit integers several times faster than it finds their order (with AVX-512, .1 against .5 s for
    4 million), so that each key is packed into one integer with its index, where both fit in.
    """
    packed = _packed(keys)
    if packed is None:
        order = np.argsort(keys, kind="stable")
        return keys[order], order
    packed.sort()
    order = packed & ((1 << _index_bits(keys)) - 1)
    packed >>= _index_bits(keys)
    packed += keys.min()
    return packed.astype(keys.dtype, copy=False), order


def _packed(keys: npt.NDArray[Any]) -> Int64 | None:
    """Each key, counted from the least one, followed by its index: (n,); None if they do not fit into one integer."""
    bits = _index_bits(keys)
    if keys.dtype.kind != "i" or not len(keys) or int(keys.max()) - int(keys.min()) >= 1 << (_BITS - bits):
        return None
    packed: Int64 = np.subtract(keys, keys.min(), dtype=np.int64)
    packed <<= bits
    packed |= np.arange(len(keys))
    return packed


def _index_bits(keys: npt.NDArray[Any]) -> int:
    return (len(keys) - 1).bit_length()
