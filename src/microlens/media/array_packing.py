"""Arrays as stored values: a header with the shape, and the bytes."""

import math
import struct

import numpy as np
from numpy.typing import NDArray

from microlens.errors import InputError

_ARRAY_MARK = b"MLU1"
_ARRAY_HEADER = struct.Struct("<4sB")  # mark, number of axes; followed by the shape and the bytes
_MAX_AXES = 8


def pack_array(array: NDArray[np.uint8]) -> bytes:
    """Encode a uint8 array of any shape as one value: a header with the shape, and the bytes."""
    sizes = struct.pack(f"<{array.ndim}I", *array.shape)
    return _ARRAY_HEADER.pack(_ARRAY_MARK, array.ndim) + sizes + array.astype(np.uint8, casting="no").tobytes()


def unpack_array(value: bytes) -> NDArray[np.uint8]:
    """Decode the uint8 array of one value, read-only.

    Raises:
        InputError: the value does not hold an array, or is damaged.
    """
    if len(value) < _ARRAY_HEADER.size or value[:4] != _ARRAY_MARK:
        raise InputError("a stored value is not an array")
    axes = value[4]
    start = _ARRAY_HEADER.size + 4 * axes
    shape = struct.unpack_from(f"<{axes}I", value, _ARRAY_HEADER.size) if len(value) >= start else (-1,)
    if axes > _MAX_AXES or len(value) - start != math.prod(shape):
        raise InputError("a stored array is cut short")
    try:
        return np.frombuffer(value, np.uint8, offset=start).reshape(shape)
    except ValueError:  # empty, with axes whose product is too large
        raise InputError("a stored array has no possible shape") from None
