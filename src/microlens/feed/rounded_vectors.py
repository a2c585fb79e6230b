"""Vectors rounded to 8 bits, which tell which few of many items may have the best scores."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from microlens.data.interactions import Int64

GROUP = 64
_STEPS = 127  # from 0 to the greatest 8-bit number
_AT_ONCE = 256 * GROUP  # neighbours that are put into groups
_NEVER = torch.iinfo(torch.int32).min
_LARGE = 2.0**30  # beyond all products
_TINY, _EPS = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).eps


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundedVectors:
    """Vectors rounded to 8 bits, with a bound on what that changes in a dot product.

    Dot products with a million vectors take the time of reading them, which is a quarter of that of 32 bits. Vectors
    are put into groups of 64 with one scale and one bound, so that within a group whole numbers are compared; among
    neighbours, those with similar greatest elements go together. The last vectors, fewer than 64, are not rounded.

    Letters: C vectors of size D, at least 2, of which 64 G are in groups.

    Attributes:
        steps: (64 G, D) the rounded vectors, group by group, in steps of their scales: 8-bit integers.
        order: (64 G,) which vector each of these is.
        places: (64 G,) where each vector is among them.
        scales: (G,) the length of a step.
        lengths: (G,) the greatest length of a vector.
        lost: (G,) the greatest length that rounding has taken off a vector.
        rest: (C - 64 G, D) the vectors in no group.
    """

    steps: Tensor
    order: Tensor
    places: Tensor
    scales: Tensor
    lengths: Tensor
    lost: Tensor
    rest: Tensor

    @classmethod
    def of(cls, vectors: Tensor, rows: Int64) -> Self:
        """Round the vectors (N, D) in some rows (C,)."""
        size, dim = len(rows) // GROUP * GROUP, vectors.shape[1]
        wanted = torch.from_numpy(rows)
        found = cls(
            steps=torch.empty(size, dim, dtype=torch.int8),
            order=torch.empty(size, dtype=torch.int32),
            places=torch.empty(size, dtype=torch.int32),
            scales=torch.empty(size // GROUP),
            lengths=torch.empty(size // GROUP),
            lost=torch.empty(size // GROUP),
            rest=vectors.index_select(0, wanted[size:]),
        )
        for start in range(0, size, _AT_ONCE):
            found._fill(start, vectors.index_select(0, wanted[start : min(start + _AT_ONCE, size)]))
        return found

    def _fill(self, start: int, vectors: Tensor) -> None:
        """Round whole groups of vectors, the first of which is number ``start``."""
        here, groups = slice(start, start + len(vectors)), slice(start // GROUP, (start + len(vectors)) // GROUP)
        order = vectors.abs().amax(1).argsort()
        self.order[here] = order + start
        self.places[order + start] = torch.arange(start, start + len(vectors), dtype=torch.int32)
        grouped = vectors.index_select(0, order).view(-1, GROUP, vectors.shape[1])
        steps, self.scales[groups], lost = _rounded(grouped)
        self.steps[here] = steps.view_as(vectors)
        self.lengths[groups] = grouped.norm(dim=2).amax(1)
        self.lost[groups] = lost.norm(dim=2).amax(1)

    def __len__(self) -> int:
        return len(self.order) + len(self.rest)

    def with_vectors(self, vectors: Tensor) -> Self:
        """These and more vectors (A, D)."""
        rest = torch.cat([self.rest, vectors])
        more, old = self.of(rest, np.arange(len(rest))), len(self.order)
        return type(self)(
            steps=torch.cat([self.steps, more.steps]),
            order=torch.cat([self.order, more.order + old]),
            places=torch.cat([self.places, more.places + old]),
            scales=torch.cat([self.scales, more.scales]),
            lengths=torch.cat([self.lengths, more.lengths]),
            lost=torch.cat([self.lost, more.lost]),
            rest=more.rest,
        )

    @torch.inference_mode()
    def candidates(self, query: Tensor, k: int, without: Int64) -> Int64:
        """The vectors that may have one of the ``k`` highest dot products with a query, ascending.

        Args:
            query: (1, D).
            k: how many; at most G.
            without: (H,) vectors that do not count; those in no group are candidates all the same.
        """
        products, scales, errors = self._products(query, without)
        bests = products.amax(1) * scales  # of distinct vectors, so that the k-th is no higher than that of all
        least = (bests - errors).topk(k).values[-1]
        groups = (bests + errors >= least).nonzero()[:, 0]
        highest = products[groups] * scales[groups, None] + errors[groups, None]
        return self._with_rest(self.order.view(-1, GROUP)[groups][highest >= least])

    @torch.inference_mode()
    def above(self, query: Tensor, value: float, without: Int64) -> tuple[int, Int64]:
        """How many vectors have a dot product with a query that is certainly above ``value``, and which ones may have.

        Args:
            query: (1, D).
            value: the value.
            without: (H,) vectors that do not count; those in no group may all the same.

        Returns:
            The number, and the vectors whose dot products may be above or equal to ``value``, ascending.
        """
        products, scales, errors = self._products(query, without)
        highest = ((value + errors) / scales).clamp(-_LARGE, _LARGE).floor().int().numpy()
        lowest = ((value - errors) / scales).clamp(-_LARGE, _LARGE).ceil().int().numpy()
        certain = products.numpy() > highest[:, None]
        possible = products.numpy() >= lowest[:, None]
        found = self.order.index_select(0, torch.from_numpy(np.flatnonzero(possible ^ certain)))
        return int(np.count_nonzero(certain)), self._with_rest(found)

    def _products(self, query: Tensor, without: Int64) -> tuple[Tensor, Tensor, Tensor]:
        """Dot products with a query (1, D) in steps (G, 64), the length of a step and how far they may be off (G,)."""
        steps, scale, lost = _rounded(query[None])
        length, lost = query.norm(), lost.norm()
        products = torch._int_mm(steps[0], self.steps.T)[0]  # the only 8-bit product of PyTorch
        places = self.places.index_select(0, torch.from_numpy(without[without < len(self.order)]))
        products.index_fill_(0, places.long(), _NEVER)
        arithmetic = (query.shape[1] + 16) * _EPS * length
        errors = self.lengths * (lost + arithmetic) + self.lost * (length + lost)
        return products.view(-1, GROUP), self.scales * scale, errors

    def _with_rest(self, found: Tensor) -> Int64:
        """Vectors of groups, and those in no group, ascending."""
        return np.concatenate([np.sort(found.numpy()), np.arange(len(self.order), len(self))], dtype=np.int64)


def _rounded(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Groups of vectors (G, M, D) in steps, the length of a step (G,), and what rounding has taken off (G, M, D)."""
    scales = (vectors.abs().amax((1, 2)) / _STEPS).clamp_(min=_TINY)
    steps = (vectors / scales[:, None, None]).round_().clamp_(-_STEPS, _STEPS)
    return steps.to(torch.int8), scales, vectors - steps * scales[:, None, None]
