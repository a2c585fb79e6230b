"""Vectors rounded to 8 bits, which tell which few of many items may have the best scores."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from microlens.data.interactions import Int64

_STEPS = 127  # from 0 to the greatest 8-bit number
_AT_ONCE = 65_536
_GROUPS = 64


@dataclass(frozen=True, eq=False)
class RoundedVectors:
    """Vectors rounded to 8 bits, each on its own scale, with a bound on what that changes in a dot product.

    Dot products with a million vectors take the time of reading them, which is a quarter of that of 32 bits.

    Letters: C vectors of size D, at least 2.

    Attributes:
        steps: (C, D) the rounded vectors in steps of their scales, 8-bit integers.
        scales: (C,) the length of a step.
        lengths: (C,) the lengths of the vectors before rounding.
        share: the greatest length that rounding has taken off a vector, by the length of the vector.
    """

    steps: Tensor
    scales: Tensor
    lengths: Tensor
    share: float

    @classmethod
    def of(cls, vectors: Tensor, rows: Int64) -> Self:
        """Round the vectors (N, D) in some rows (C,)."""
        parts = [
            _rounded(vectors[torch.from_numpy(part)]) for part in np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE))
        ]
        steps, scales, lengths, shares = zip(*parts, strict=True)
        return cls(torch.cat(steps), torch.cat(scales), torch.cat(lengths), max(shares))

    def with_vectors(self, vectors: Tensor) -> Self:
        """These and more vectors (A, D)."""
        steps, scales, lengths, share = _rounded(vectors)
        return type(self)(
            torch.cat([self.steps, steps]),
            torch.cat([self.scales, scales]),
            torch.cat([self.lengths, lengths]),
            max(self.share, share),
        )

    @torch.inference_mode()
    def candidates(self, query: Tensor, k: int, without: Int64) -> Int64:
        """The vectors that may have one of the ``k`` highest dot products with a query, ascending.

        Args:
            query: (1, D).
            k: how many; at most C / 64.
            without: (H,) vectors that do not count.
        """
        products, error = self._products(query)
        lowest = products.add(self.lengths, alpha=-error)
        lowest[torch.from_numpy(without)] = -torch.inf
        whole = len(lowest) // _GROUPS * _GROUPS
        # Bests of different vectors each, so that the k-th of them is no higher than the k-th of all.
        bests = lowest[:whole].view(_GROUPS, -1).amax(0)
        highest = products.add_(self.lengths, alpha=error)
        return np.flatnonzero((highest >= bests.topk(k).values[-1]).numpy())

    def _products(self, query: Tensor) -> tuple[Tensor, float]:
        """Dot products with a query (1, D): (C,), and how far they may be off, as a factor of the lengths."""
        steps, scale, length, share = _rounded(query)
        products = torch._int_mm(steps, self.steps.T)[0] * self.scales  # the only 8-bit product of PyTorch
        arithmetic = (query.shape[1] + 8) * torch.finfo(torch.float32).eps
        return products.mul_(scale), float(length) * (self.share + share * (1 + self.share) + arithmetic)


def _rounded(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """The fields of :class:`RoundedVectors` for some vectors (C, D)."""
    scales = (vectors.abs().amax(1) / _STEPS).clamp_(min=torch.finfo(torch.float32).tiny)
    steps = (vectors / scales[:, None]).round_().clamp_(-_STEPS, _STEPS)
    lengths = vectors.norm(dim=1)
    lost = (vectors - steps * scales[:, None]).norm(dim=1)
    return steps.to(torch.int8), scales, lengths, float((lost / lengths).nan_to_num_(0).max())
