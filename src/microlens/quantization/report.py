"""What to know of codes before a model is trained on them: collisions, use, error, and the codes of new items."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from microlens.data.interactions import Int64
from microlens.quantization.kmeans import Float32


@dataclass(frozen=True, kw_only=True)
class LevelUse:
    """How a level uses its codes.

    Attributes:
        used: number of codes that an item has.
        perplexity: the exponential of the entropy of the codes; ``used`` if all are equally frequent.
        largest: number of items with the most frequent code.
    """

    used: int
    perplexity: float
    largest: int


@dataclass(frozen=True, kw_only=True)
class NewItemCodes:
    """How much of the codes of items without training interactions is known from other items.

    Attributes:
        num_items: number of items without training interactions.
        known_codes: for each level, the share of them whose code a known item has at this level.
        known_prefixes: for each length from 1, the share of them whose first codes are the first codes of a known item.
    """

    num_items: int
    known_codes: list[float]
    known_prefixes: list[float]


@dataclass(frozen=True, kw_only=True)
class CodeReport:
    """What codes make of their items.

    Attributes:
        num_items: N.
        tuples: number of different tuples of codes.
        colliding: share of items that have their tuple in common with another item.
        largest_group: number of items with the most frequent tuple.
        error: squared error of the restored vectors, as a share of the squared distance from the mean vector.
        levels: one entry a level.
        new_items: None if it is not known which items are new.
    """

    num_items: int
    tuples: int
    colliding: float
    largest_group: int
    error: float
    levels: list[LevelUse]
    new_items: NewItemCodes | None


def report_codes(
    codes: Int64, vectors: Float32, restored: Float32, is_new: npt.NDArray[np.bool_] | None = None
) -> CodeReport:
    """Report on the codes (N, C) of vectors (N, F).

    Args:
        codes: without a code that breaks ties between equal tuples.
        vectors: what was quantised.
        restored: (N, F) the vectors that the codes stand for.
        is_new: (N,) true for items without training interactions.
    """
    groups = _group_sizes(codes)
    spread = np.square(vectors - vectors.mean(0), dtype=np.float64).sum()
    return CodeReport(
        num_items=len(codes),
        tuples=len(groups),
        colliding=float(groups[groups > 1].sum() / len(codes)),
        largest_group=int(groups.max()),
        error=float(np.square(vectors - restored, dtype=np.float64).sum() / max(spread, np.finfo(np.float64).tiny)),
        levels=[_use(codes[:, level]) for level in range(codes.shape[1])],
        new_items=None if is_new is None else _new_items(codes, is_new),
    )


def break_ties(codes: Int64) -> Int64:
    """Append a code that tells items with equal codes (N, C) apart: (N, C + 1).

    It counts 0, 1, ... in the order of rows, as in TIGER (arXiv 2305.05065, section 3.1), where every item has it.
    """
    _, group = np.unique(codes, axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    last = np.empty(len(codes), np.int64)
    last[order] = np.arange(len(codes)) - np.searchsorted(ordered, ordered)
    return np.column_stack([codes, last])


def _group_sizes(codes: Int64) -> Int64:
    return np.unique(codes, axis=0, return_counts=True)[1]


def _use(codes: Int64) -> LevelUse:
    counts = np.unique(codes, return_counts=True)[1]
    shares = counts / len(codes)
    return LevelUse(
        used=len(counts), perplexity=float(np.exp(-(shares * np.log(shares)).sum())), largest=int(counts.max())
    )


def _new_items(codes: Int64, is_new: npt.NDArray[np.bool_]) -> NewItemCodes:
    new, known = codes[is_new], codes[~is_new]
    levels = range(codes.shape[1])
    return NewItemCodes(
        num_items=len(new),
        known_codes=[_share_known(new[:, [level]], known[:, [level]]) for level in levels],
        known_prefixes=[_share_known(new[:, : level + 1], known[:, : level + 1]) for level in levels],
    )


def _share_known(new: Int64, known: Int64) -> float:
    """The share of the rows of ``new`` that are a row of ``known``; 0 if there are none."""
    _, tuples = np.unique(np.concatenate([known, new]), axis=0, return_inverse=True)
    tuples = tuples.reshape(-1)
    found = np.isin(tuples[len(known) :], tuples[: len(known)])
    return float(found.mean()) if len(new) else 0.0
