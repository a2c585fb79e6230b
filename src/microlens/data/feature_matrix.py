"""Matrices of frozen feature vectors, matched to items by id."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from microlens.data.arrays import open_array, read_header
from microlens.data.interactions import Int64, ItemIds
from microlens.errors import InputError

ONE = "the encoder features reads such files"
SEVERAL = "the encoders layer_mix, attention_pool and iisan read such files"


def load_features(path: str | Path, item_ids: ItemIds) -> npt.NDArray[np.float32]:
    """Load the feature vectors of ``item_ids`` (N,), in that order: (N, E) float32.

    ``path`` is a ``.npy`` matrix. ``NAME.ids.npy`` next to it holds the item id of each row, in any order and possibly
    of additional items: integers or, for datasets with text ids, text of fixed width.

    Raises:
        InputError: a file is missing, damaged, or of another shape or type; it holds codes; an id occurs twice; an item
            has no row; or a needed value is not a finite float32.
    """
    if holds_codes(Path(path)):
        raise InputError(f"{path} holds codes of items, which are no features; name the file they were made from.")
    return load_matrix(path, item_ids)


def holds_codes(path: Path) -> bool:
    """True if the record beside ``path`` says that it was written by ``microlens features codes``."""
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # no record of ours
    return isinstance(record, dict) and record.keys() >= {"method", "levels", "codes"}


def load_matrix(path: str | Path, item_ids: ItemIds) -> npt.NDArray[np.float32]:
    """Load the rows of ``item_ids`` (N,) as :func:`load_features` does, of a matrix of features or codes."""
    matrix_path = Path(path)
    matrix, positions = matched_rows(matrix_path, item_ids, ndim=2)
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, which is rejected below
        rows = np.asarray(matrix[positions], np.float32)
    broken = ~np.isfinite(rows).all(axis=1)
    if broken.any():
        raise InputError(
            f"{matrix_path}: the features of item {item_ids[broken][0]} contain NaN, infinity or a value beyond "
            "float32."
        )
    return rows


def matched_rows(path: Path, item_ids: ItemIds, *, ndim: int) -> tuple[npt.NDArray[Any], Int64]:
    """Map the array at ``path`` with ``ndim`` axes, and find the row of each item by the ids next to it.

    Returns:
        The array, mapped into memory, and the row of each of ``item_ids`` (N,).

    Raises:
        InputError: as :func:`load_features`, but for the values.
    """
    ids_path = path.with_suffix(".ids.npy")
    matrix = _open(path, ndim=ndim, content="numbers")
    row_ids = _open_ids(ids_path, text=item_ids.dtype == object)
    if len(matrix) != len(row_ids):
        raise InputError(f"{path} has {len(matrix):,} rows but {ids_path} names {len(row_ids):,}.")
    order = np.argsort(row_ids, kind="stable")
    ordered = row_ids[order]
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        raise InputError(f"{ids_path} names item {repeated[0]} twice; each item may have only one row.")
    positions = np.minimum(np.searchsorted(ordered, item_ids), len(ordered) - 1)
    missing = item_ids[ordered[positions] != item_ids]
    if len(missing):
        raise InputError(f"{path} has no row for {len(missing):,} items (first: item {missing[0]}).")
    return matrix, order[positions]


def load_all_features(path: str | Path) -> tuple[ItemIds, npt.NDArray[np.float32]]:
    """The item ids (N,) of a feature file and their vectors (N, E), in its order; raises as :func:`load_features`."""
    ids = _open(Path(path).with_suffix(".ids.npy"), ndim=1, content="integers or text")
    item_ids: ItemIds = ids.astype(np.int64) if ids.dtype.kind in "iu" else _text(ids)
    return item_ids, load_features(path, item_ids)


def _open_ids(path: Path, *, text: bool) -> ItemIds:
    if not text:
        return _open(path, ndim=1, content="integers").astype(np.int64)
    return _text(_open(path, ndim=1, content="integers or text"))


def _text(ids: npt.NDArray[Any]) -> npt.NDArray[np.object_]:
    return np.array(ids.astype(np.str_).tolist(), object)


def _open(path: Path, ndim: int, content: str) -> npt.NDArray[Any]:
    if not path.exists():
        raise InputError(
            f"{path} does not exist; features are NAME.npy (one row per item) with NAME.ids.npy (item ids)."
        )
    shape = read_header(path, content=content).shape
    if {ndim, len(shape)} == {2, 3}:
        found = f"several vectors per item; {SEVERAL}" if ndim == 2 else f"one vector per item; {ONE}"
        raise InputError(f"{path} has shape {shape}: {found}.")
    return open_array(path, ndim=ndim, content=content)
