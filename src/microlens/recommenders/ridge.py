"""The closed-form solutions of EASE and FEASE, in place and in blocks (Steck 2019; Cui et al. 2025)."""

import numpy as np
import numpy.typing as npt

from microlens.data.split import Split
from microlens.errors import InputError
from microlens.recommenders.counting import user_items

Matrix = npt.NDArray[np.float32]
ROWS_AT_ONCE = 1024


def add_gram(matrix: Matrix, split: Split) -> None:
    """Add the Gram matrix in place: at (i, j), the number of users with both i and j in the training set."""
    interactions = user_items(split)
    by_item = interactions.T.tocsr()
    for start in range(0, split.num_items, ROWS_AT_ONCE):
        block = by_item[start : start + ROWS_AT_ONCE] @ interactions
        rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        matrix[start + 1 + rows, block.indices + 1] += block.data


def add_features(matrix: Matrix, features: Matrix, weight: float) -> None:
    """Add ``weight`` times the products of all pairs of rows of ``features`` (N+1, F) in place."""
    for start in range(0, len(matrix), ROWS_AT_ONCE):
        matrix[start : start + ROWS_AT_ONCE] += (weight * features[start : start + ROWS_AT_ONCE]) @ features.T


def invert(matrix: Matrix) -> None:
    """Invert a symmetric positive definite matrix in place."""
    from scipy.linalg import lapack  # slow to load, and of use to this model alone

    columns = matrix.T  # column-major view, as LAPACK expects; the matrix is symmetric
    factor, failed = lapack.spotrf(columns, lower=1, clean=0, overwrite_a=1)
    if not failed:
        inverse, failed = lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise InputError("model.regularization is too small for these interactions; try a larger one.")
    assert np.shares_memory(inverse, matrix)
    size = len(matrix)
    for start in range(0, size, ROWS_AT_ONCE):  # mirror the triangle that LAPACK filled
        end = min(start + ROWS_AT_ONCE, size)
        square = matrix[start:end, start:end]
        square[:] = np.triu(square) + np.triu(square, 1).T
        matrix[end:, start:end] = matrix[start:end, end:].T


def scale_columns(matrix: Matrix) -> None:
    """Turn the inverse P into the weights -P_ij / P_jj, zero on the diagonal, in place."""
    diagonal = matrix.diagonal().copy()
    matrix /= -diagonal
    np.fill_diagonal(matrix, 0.0)


def scale_columns_with_prior(matrix: Matrix, features: Matrix, weight: float) -> None:
    """Turn the inverse P into the weights I - P diag(g) + ``weight`` P R, zero on the diagonal, in place.

    R holds the products of the rows of ``features`` (N+1, F), and g_j = (1 + weight (P R)_jj) / P_jj.
    """
    products = matrix @ features  # P T', (N+1, F)
    scales = (1 + weight * (products * features).sum(1)) / matrix.diagonal()  # g, (N+1,)
    for start in range(0, len(matrix), ROWS_AT_ONCE):
        rows = matrix[start : start + ROWS_AT_ONCE]
        rows *= -scales
        rows += (weight * products[start : start + ROWS_AT_ONCE]) @ features.T
    np.fill_diagonal(matrix, 0.0)
