"""Residual quantisation derived again: one vector, one level, one pair at a time.

Written from the equations of TIGER (arXiv 2305.05065), Lee et al. (2022) and the definition of a stable matching. No
code of the package is used.
"""

from itertools import product

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def squared_distance(one: Array, other: Array) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))


def nearest_codes(vector: Array, codebooks: Array) -> tuple[list[int], Array]:
    """The codes of a vector, level by level, and what is left of it."""
    codes, residual = [], vector.copy()
    for codebook in codebooks:
        code = min(range(len(codebook)), key=lambda number: squared_distance(residual, codebook[number]))
        codes.append(code)
        residual = residual - codebook[code]
    return codes, residual


def greedy_matching(distances: Array) -> list[int]:
    """The nearest pair of an item and a code first, if the item is free and the code not full; ties by number."""
    num_items, num_codes = distances.shape
    places = [-(-num_items // num_codes)] * num_codes
    found: dict[int, int] = {}
    for item, code in sorted(product(range(num_items), range(num_codes)), key=lambda pair: (distances[pair], *pair)):
        if item not in found and places[code]:
            found[item] = code
            places[code] -= 1
    return [found[item] for item in range(num_items)]


def codebook_loss(latent: Array, codebooks: Array, commitment: float) -> float:
    """The loss of one latent vector's codes: squared residuals, once for the codes and once for the encoder."""
    loss, residual = 0.0, latent.copy()
    for codebook in codebooks:
        code = min(range(len(codebook)), key=lambda number: squared_distance(residual, codebook[number]))
        loss += (1 + commitment) * squared_distance(residual, codebook[code])
        residual = residual - codebook[code]
    return loss
