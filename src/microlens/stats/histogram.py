"""Summaries and histograms of numbers."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

_BINS = 40
_WIDE = 20  # ratio of the largest to the smallest value from which bins grow with the values


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Number, mean, median and extremes of values."""

    number: int
    mean: float
    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> Self:
        """Summarize ``values`` (n,), at least one."""
        return cls(
            number=len(values),
            mean=float(values.mean()),
            median=float(np.median(values)),
            least=float(values.min()),
            most=float(values.max()),
        )


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """``counts`` (B,) of the values from ``edges[b]`` to ``edges[b + 1]``, the end excluded except in the last bin."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, values: npt.NDArray[Any], *, whole: bool = False) -> Self:
        """Count ``values`` (n,), at least one and none negative.

        Bins are equally wide, or grow with the values if these are spread widely.

        Args:
            values: the values.
            whole: they are integers: a bin holds one or more of them, and its end is the next integer.
        """
        low, high = float(values.min()), float(values.max()) + whole
        if not low < high:
            low, high = low - 0.5, high + 0.5
        edges = np.geomspace(low, high, _BINS + 1) if 0 < _WIDE * low < high else np.linspace(low, high, _BINS + 1)
        edges[[0, -1]] = low, high  # geomspace may round
        if whole:
            edges = np.unique(edges.round())
        counts, edges = np.histogram(values, edges)
        return cls(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))

    @property
    def is_wide(self) -> bool:
        """True if the values are spread widely, for a logarithmic axis."""
        return 0 < _WIDE * self.edges[0] < self.edges[-1]
