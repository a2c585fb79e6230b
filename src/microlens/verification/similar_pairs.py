"""Pairs of media that look alike, by their perceptual hashes."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from microlens.verification.perceptual_hashes import FLAT

Hashes = NDArray[np.uint64]

_BITS = 16  # of a band
_BANDS = 64 // _BITS
_MOST_DIFFERING = 1 / 8
_MOST_IN_A_BAND = 200  # media that agree in a band; more say that the band is of an empty part of the pictures


def similar_pairs(hashes: Sequence[Sequence[str]]) -> list[tuple[int, int, int]]:
    """The pairs of N media that look alike: (i, j, number of differing bits), i < j.

    Media look alike if their P hashes differ in less than an eighth of the bits; encoding a video again at another size
    and quality changes fewer. Candidates are found by a band of 16 bits that is equal, which every pair has that
    differs in fewer than 4 P bits. Media without a hash, or with flat pictures only, look like none. Of media with
    equal hashes, each is paired with the first.

    Args:
        hashes: P hashes of each of the media, from :func:`picture_hashes`.
    """
    usable = [index for index, own in enumerate(hashes) if any(own)]
    if len(usable) < 2:
        return []
    values = np.array([[int(text or "0", 16) for text in hashes[index]] for index in usable], np.uint64)  # (U, P)
    flat = np.array([[text == FLAT for text in hashes[index]] for index in usable])
    distinct, first, inverse = np.unique(values, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    pairs = [
        (usable[int(first[group])], usable[index], 0)
        for index, group in enumerate(inverse.tolist())
        if index != first[group]
    ]
    left, right = _candidates(distinct, flat[first])
    bits = np.bitwise_count(distinct[left] ^ distinct[right]).sum(axis=1)
    for i, j, differing in zip(first[left].tolist(), first[right].tolist(), bits.tolist(), strict=True):
        if differing < _MOST_DIFFERING * 64 * values.shape[1]:
            pairs.append((usable[min(i, j)], usable[max(i, j)], differing))
    return sorted(pairs)


def _candidates(values: Hashes, flat: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of rows of ``values`` (U, P) that agree in a band of a picture that is not ``flat`` (U, P): (C,), (C,)."""
    found: list[pl.DataFrame] = []
    for picture in range(values.shape[1]):
        for band in range(_BANDS):
            key = (values[:, picture] >> np.uint64(_BITS * band)) & np.uint64((1 << _BITS) - 1)
            table = pl.DataFrame({"key": key, "row": np.arange(len(values))}).filter(pl.Series(~flat[:, picture]))
            table = table.filter(pl.len().over("key") <= _MOST_IN_A_BAND)
            pairs = table.join(table, on="key").filter(pl.col("row") < pl.col("row_right"))
            found.append(pairs.select("row", "row_right"))
    rows = pl.concat(found).unique().sort("row", "row_right")
    return rows["row"].to_numpy(), rows["row_right"].to_numpy()
