"""Whether the vectors of one matrix are those of another: equal, scaled, rotated, or mapped linearly."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

Kind = Literal["equal", "rounded", "scaled", "normalised", "rotated", "linear", "similar", "different"]
LINEAR: tuple[Kind, ...] = ("equal", "rounded", "scaled", "normalised", "rotated", "linear")
"""The relations that the same encoder can have with itself."""
_EXACT, _ROUNDED, _CLOSE = 1e-6, 2e-3, 5e-3
_FITTED = 0.999
_SIMILAR = 0.9
_ROWS_A_COLUMN = 2  # rows to fit a linear map, a multiple of the columns


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Measures of P pairs of vectors, A (P, D) and B (P, E); residuals are relative to the norm of B.

    difference: ‖A - B‖, None if D and E differ. scale, scaled: the best c of c A = B, and its residual; None likewise.
    cosine: the least cosine of a pair; None likewise. rotated: residual of the best rotation or reflection with scale
    (orthogonal Procrustes). fit, fit_back: R2 of the best linear map from A to B and from B to A on pairs that it was
    not fitted to; None with fewer pairs than 4 times the columns. cka: linear centred kernel alignment (Kornblith et
    al., ICML 2019), which no rotation and no scale changes.
    """

    difference: float | None
    scale: float | None
    scaled: float | None
    cosine: float | None
    rotated: float
    fit: float | None
    fit_back: float | None
    cka: float


@dataclass(frozen=True, kw_only=True)
class Relation:
    """The simplest relation that holds between two matrices, and the numbers that it follows from."""

    kind: Kind
    numbers: Numbers

    @property
    def sentence(self) -> str:
        """The relation in words."""
        numbers = self.numbers
        return {
            "equal": "A and B hold the same vectors",
            "rounded": "A and B hold the same vectors up to rounding, as of 16-bit numbers",
            "scaled": f"B is A times {numbers.scale:.4g}" if numbers.scale is not None else "",
            "normalised": "A and B hold the same directions with other lengths, as of normalised vectors",
            "rotated": "B is A after a rotation or reflection, perhaps scaled",
            "linear": f"B and A differ by a linear map (R2 {_number(numbers.fit)}, back {_number(numbers.fit_back)})",
            "similar": (
                f"A and B are similar (CKA {numbers.cka:.3f}) but no linear map of one another: another encoder or "
                "other input"
            ),
            "different": f"A and B are of different encoders (CKA {numbers.cka:.3f})",
        }[self.kind]


def relation(a: Matrix, b: Matrix) -> Relation:
    """The relation of the rows of ``a`` (P, D) to those of ``b`` (P, E)."""
    numbers = _measured(a, b)
    return Relation(kind=_kind(numbers), numbers=numbers)


def _kind(numbers: Numbers) -> Kind:
    fits = [fit for fit in (numbers.fit, numbers.fit_back) if fit is not None]
    tests: tuple[tuple[Kind, bool], ...] = (
        ("equal", _at_most(numbers.difference, _EXACT)),
        ("rounded", _at_most(numbers.difference, _ROUNDED)),
        ("scaled", _at_most(numbers.scaled, _ROUNDED)),
        ("normalised", numbers.cosine is not None and numbers.cosine >= 1 - _ROUNDED**2),
        ("rotated", numbers.rotated <= _CLOSE),
        ("linear", max(fits, default=0.0) >= _FITTED),
        ("similar", numbers.cka >= _SIMILAR),
    )
    return next((kind for kind, holds in tests if holds), "different")


def _measured(a: Matrix, b: Matrix) -> Numbers:
    size = np.linalg.norm(b) or 1.0
    same_width = a.shape[1] == b.shape[1]
    scale = float((a * b).sum() / ((a * a).sum() or 1.0)) if same_width else None
    return Numbers(
        difference=float(np.linalg.norm(a - b) / size) if same_width else None,
        scale=scale,
        scaled=float(np.linalg.norm(scale * a - b) / size) if scale is not None else None,
        cosine=_least_cosine(a, b) if same_width else None,
        rotated=_procrustes(a, b),
        fit=_fit(a, b),
        fit_back=_fit(b, a),
        cka=_cka(a, b),
    )


def _least_cosine(a: Matrix, b: Matrix) -> float:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1.0)).min())


def _procrustes(a: Matrix, b: Matrix) -> float:
    """The relative residual of the best rotation or reflection with scale; the narrower matrix is padded with zeros."""
    nuclear = np.linalg.svd(a.T @ b, compute_uv=False).sum()
    of_a, of_b = (a * a).sum(), (b * b).sum()
    return float(np.sqrt(max(0.0, 1 - nuclear**2 / ((of_a * of_b) or 1.0))))


def _fit(a: Matrix, b: Matrix) -> float | None:
    """R2 of the least-squares map from ``a`` and a constant to ``b``, fitted to every other row, on the others."""
    number = len(a) // 2
    if number < _ROWS_A_COLUMN * a.shape[1]:
        return None
    with_constant = np.concatenate([a, np.ones((len(a), 1))], axis=1)
    weights, *_ = np.linalg.lstsq(with_constant[::2], b[::2], rcond=None)
    rest = b[1::2]
    variance = ((rest - rest.mean(axis=0)) ** 2).sum()
    return float(1 - ((with_constant[1::2] @ weights - rest) ** 2).sum() / (variance or 1.0))


def _cka(a: Matrix, b: Matrix) -> float:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    size = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(np.linalg.norm(a.T @ b) ** 2 / (size or 1.0))


def _at_most(value: float | None, limit: float) -> bool:
    return value is not None and value <= limit


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
