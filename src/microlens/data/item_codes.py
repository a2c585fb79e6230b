"""Discrete codes of items, matched to items by id."""

from pathlib import Path

import numpy as np

from microlens.data.feature_matrix import load_matrix
from microlens.data.interactions import Int64, ItemIds
from microlens.errors import InputError

LARGEST_CODE = 65_535


def load_codes(path: str | Path, item_ids: ItemIds) -> Int64:
    """Load the codes of ``item_ids`` (N,), in that order: (N, C).

    ``path`` and ``NAME.ids.npy`` next to it are as in :func:`microlens.data.feature_matrix.load_features`;
    ``microlens features codes`` writes them.

    Raises:
        InputError: see :func:`microlens.data.feature_matrix.load_features`; or a value is no whole number from 0 to
            65,535, or two items have the same codes.
    """
    values = load_matrix(path, item_ids)
    whole = (values == np.floor(values)) & (values >= 0) & (values <= LARGEST_CODE)
    if not whole.all():
        row, column = np.argwhere(~whole)[0]
        raise InputError(
            f"{path} holds no codes: item {item_ids[row]} has {values[row, column]:g}; codes are whole numbers from "
            f"0 to {LARGEST_CODE:,}, made from features with: microlens features codes FEATURES."
        )
    codes = values.astype(np.int64)
    _, first, group = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[group.reshape(-1)] != np.arange(len(codes)))
    if len(again):
        one, other = item_ids[first[group.reshape(-1)[again[0]]]], item_ids[again[0]]
        raise InputError(f"{path} gives the items {one} and {other} the same codes; every item needs codes of its own.")
    return codes
