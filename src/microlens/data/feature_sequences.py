"""Frozen feature vectors of which an item has several: those of its frames, or of the layers of an encoder."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from microlens.data.feature_matrix import matched_rows
from microlens.data.interactions import Int64, ItemIds
from microlens.errors import InputError

ROWS_AT_ONCE = 1024


class FeatureSequences:
    """The T vectors of each item (N, T, E), mapped into memory: only the rows that are read take up any.

    ``present`` (N, T) is false where a vector is missing, which is NaN as a whole: items may have fewer than T frames.

    Args:
        path: path of a ``.npy`` array (rows, T, E) of any type of numbers, with ``NAME.ids.npy`` next to it, see
            :func:`microlens.data.feature_matrix.load_features`.
        item_ids: (N,) ids of items 1..N.

    Raises:
        InputError: as :func:`microlens.data.feature_matrix.load_features`; a vector is NaN or infinite in part, or all
            vectors of an item are missing.
    """

    def __init__(self, path: str | Path, item_ids: ItemIds) -> None:
        self.path = Path(path)
        self._rows, self._positions = matched_rows(self.path, item_ids, ndim=3)
        self.num_vectors, self.feature_dim = (int(size) for size in self._rows.shape[1:])
        self.present = np.empty((len(item_ids), self.num_vectors), bool)
        for start in range(0, len(item_ids), ROWS_AT_ONCE):
            self._check(slice(start, start + ROWS_AT_ONCE), item_ids)

    def _check(self, part: slice, item_ids: ItemIds) -> None:
        """Find the missing vectors of some items and refuse broken ones."""
        vectors = self._read(self._positions[part])  # (n, T, E)
        finite, absent = np.isfinite(vectors).all(2), np.isnan(vectors).all(2)
        broken = ~(finite | absent).all(1) | absent.all(1)
        if broken.any():
            row = int(broken.argmax())
            fault = "has no vector" if absent[row].all() else "contains NaN, infinity or a value beyond float32"
            raise InputError(
                f"{self.path}: item {item_ids[part][row]} {fault}; a missing vector is NaN as a whole, and an item "
                f"needs at least one."
            )
        self.present[part] = finite

    def read(self, items: Int64) -> npt.NDArray[np.floating]:
        """The vectors of item numbers (M,): (M, T, E) float16 or float32, zero where they are missing."""
        vectors = self._read(self._positions[items - 1])
        present = self.present[items - 1]
        if not present.all():
            vectors[~present] = 0
        return vectors

    def _read(self, rows: Int64) -> npt.NDArray[np.floating]:
        vectors = np.asarray(self._rows[rows])  # a copy
        if vectors.dtype == np.float16:
            return vectors
        with np.errstate(over="ignore"):  # values beyond float32 become infinite
            return vectors.astype(np.float32, copy=False)
