"""Residual quantisation by k-means, plain or with balanced clusters."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.cluster.vq import kmeans2
from scipy.sparse import csr_array

from microlens.data.interactions import Int64

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
OnProgress = Callable[[int, int], None]

PLAIN_ITERATIONS = 50
BALANCED_ITERATIONS = 20


class Quantized(NamedTuple):
    """The codes (N, C) of N vectors, and the vectors that they stand for, (N, F)."""

    codes: Int64
    restored: Float32


def residual_kmeans(
    vectors: Float32,
    *,
    levels: int,
    num_codes: int,
    seed: int,
    balanced: bool,
    on_progress: OnProgress | None = None,
) -> Quantized:
    """Quantise vectors (N, F) with :func:`residual_codebooks`, whose arguments these are."""
    codes, codebooks = residual_codebooks(
        vectors, levels=levels, num_codes=num_codes, seed=seed, balanced=balanced, on_progress=on_progress
    )
    restored = sum(codebook[codes[:, level]] for level, codebook in enumerate(codebooks))
    return Quantized(codes, np.asarray(restored, np.float32))


def residual_codebooks(
    vectors: Float32,
    *,
    levels: int,
    num_codes: int,
    seed: int,
    balanced: bool,
    on_progress: OnProgress | None = None,
) -> tuple[Int64, Float64]:
    r"""Cluster vectors level by level, each level clustering what the levels before it left:

    .. math:: r_1 = x, \quad c_l = \text{cluster of } r_l, \quad r_{l+1} = r_l - e_l(c_l), \quad
        \hat x = \sum_l e_l(c_l)

    A level is Lloyd's k-means from ``num_codes`` vectors drawn at random. A balanced level goes on from there:
    :func:`balanced_assignment` instead of the nearest centroid, then the means, until nothing changes. OneRec (Deng et
    al. 2025, arXiv 2502.18965, algorithm 1) balances otherwise: centroids, one after the other, take the items nearest
    to them.

    Letters: N vectors of size F, C levels, K codes.

    Args:
        vectors: x, (N, F).
        levels: C, at least 1.
        num_codes: K, from 2 to N.
        seed: of the first centroids.
        balanced: allow no code of a level more than ceil(N / K) items.
        on_progress: called with (done, total) levels.

    Returns:
        The codes c (N, C) and the codebooks e (C, K, F).

    Raises:
        ValueError: an argument is out of range.
    """
    check_sizes(len(vectors), levels, num_codes)
    rng = np.random.default_rng(seed)
    residual = vectors.astype(np.float64)
    codes = np.zeros((len(vectors), levels), np.int64)
    codebooks = np.zeros((levels, num_codes, vectors.shape[1]))
    for level in range(levels):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "One of the clusters is empty")  # whose centroid stays where it was
            centroids, nearest = kmeans2(residual, num_codes, iter=PLAIN_ITERATIONS, minit="points", rng=rng)
        if balanced:
            centroids, nearest = _balance(residual, centroids)
        codes[:, level], codebooks[level] = nearest, centroids
        residual -= centroids[nearest]
        if on_progress:
            on_progress(level + 1, levels)
    return codes, codebooks


def random_codes(
    vectors: Float32, *, levels: int, num_codes: int, seed: int, on_progress: OnProgress | None = None
) -> Quantized:
    """Codes that say nothing of the vectors, the control of codes that do; in TIGER's table 2, random ids.

    Each level deals its codes out to the items in random order. Arguments as in :func:`residual_codebooks`.
    """
    check_sizes(len(vectors), levels, num_codes)
    rng = np.random.default_rng(seed)
    dealt = np.arange(len(vectors)) % num_codes
    codes = np.stack([rng.permutation(dealt) for _ in range(levels)], 1)
    if on_progress:
        on_progress(levels, levels)
    return Quantized(codes, np.broadcast_to(vectors.mean(0), vectors.shape))


def check_sizes(num_items: int, levels: int, num_codes: int) -> None:
    """Raise ValueError unless ``num_items`` vectors can have ``levels`` codes of ``num_codes`` values."""
    if levels < 1 or not 2 <= num_codes <= num_items:
        raise ValueError(
            f"levels = {levels}, codes = {num_codes}: at least 1 level is needed, and from 2 codes to as many as there "
            f"are items, {num_items:,}"
        )


def _balance(vectors: Float64, centroids: Float64) -> tuple[Float64, Int64]:
    """Balanced k-means from ``centroids`` (K, F): the centroids (K, F) and the cluster of each vector (N,)."""
    assigned = np.full(len(vectors), -1)
    for _ in range(BALANCED_ITERATIONS):
        before, assigned = assigned, balanced_assignment(squared_distances(vectors, centroids))
        if np.array_equal(before, assigned):
            break
        centroids = _means(vectors, assigned, centroids)
    return centroids, assigned


def balanced_assignment(distances: Float64) -> Int64:
    """Give each of N items one of K codes, none of which takes more than ceil(N / K) items: (N,).

    Of all pairs of an item and a code, the nearest is joined first, then the next nearest whose item is still free and
    whose code is not full; ties by item, then code. This is the only stable matching (Gale and Shapley 1962): no item
    and code are nearer to each other than to what they have. It is computed by proposals: free items ask the nearest
    code that would take them, and codes that are over-full let the furthest go.

    Args:
        distances: (N, K).
    """
    N, K = distances.shape
    capacity = -(-N // K)
    items = np.arange(N)
    codes = np.zeros(N, np.int64)
    furthest, last = np.full(K, np.inf), np.full(K, N)  # distance and number of the last item that a full code keeps
    free = items
    while len(free):
        asked = distances[free]
        takes = (asked < furthest) | ((asked == furthest) & (free[:, None] < last))  # (f, K)
        codes[free] = np.where(takes, asked, np.inf).argmin(1)
        nearness = distances[items, codes]
        order = np.lexsort((items, nearness, codes))  # by code, then distance, then item
        place = items - np.searchsorted(codes[order], codes[order])  # within the code
        keeper = order[place == capacity - 1]
        furthest[codes[keeper]], last[codes[keeper]] = nearness[keeper], keeper
        free = np.sort(order[place >= capacity])
    return codes


def squared_distances(vectors: Float64, centroids: Float64) -> Float64:
    """The squared distances (N, K) of vectors (N, F) and centroids (K, F)."""
    products: Float64 = vectors @ centroids.T
    distances: Float64 = np.square(vectors).sum(1)[:, None] - 2 * products + np.square(centroids).sum(1)
    return distances


def _means(vectors: Float64, codes: Int64, centroids: Float64) -> Float64:
    """The mean of the vectors of each code (K, F); a code without any keeps its centroid."""
    N, K = len(vectors), len(centroids)
    counts = np.bincount(codes, minlength=K)[:, None]
    sums: Float64 = csr_array((np.ones(N), (codes, np.arange(N))), shape=(K, N)) @ vectors
    means: Float64 = np.where(counts > 0, sums / np.maximum(1, counts), centroids)
    return means
