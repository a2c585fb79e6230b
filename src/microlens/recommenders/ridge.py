"""The closed-form solution of EASE, in place and in blocks (Steck 2019, arXiv 1905.03375)."""

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
