"""Batches: users' sequences, and each distinct item of them once."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from microlens.data.content import ItemContent
from microlens.data.interactions import Int32, Int64
from microlens.data.split import Split

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ItemBatch:
    """Distinct items, each read once: ``items`` (M,) numbers and their ``content`` by kind, (M, ...) as on disk."""

    items: Tensor
    content: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def at(self, rows: Tensor | slice) -> Self:
        """The items at ``rows``, by number (m,) or as a slice, with their content."""
        return type(self)(items=self.items[rows], content={kind: values[rows] for kind, values in self.content.items()})

    def to(self, device: torch.device) -> Self:
        """The same items with everything on ``device``."""
        return type(self)(
            items=self.items.to(device, non_blocking=True),
            content={kind: values.to(device, non_blocking=True) for kind, values in self.content.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Users' left-padded sequences and where each of their items lies among the batch's M distinct items.

    Several processes that train together share one batch: ``sequence``, ``slots`` and ``users`` are this process's
    rows; ``distinct``, ``counts`` and ``num_targets`` are those of the whole batch, and ``share`` holds the content of
    the distinct items that this process encodes for all. Alone, a process has all rows and all items.

    Shapes, S = L + 1: ``users`` (B,), ``sequence`` and ``slots`` (B, S), padding being 0 in ``sequence`` and M in
    ``slots``; ``distinct`` (M,) item numbers, ``counts`` (M,) how often each occurs.
    """

    users: Tensor
    sequence: Tensor
    slots: Tensor
    distinct: Tensor
    counts: Tensor
    num_targets: int
    share: ItemBatch

    @property
    def history(self) -> Tensor:
        """(B, L) what is read."""
        return self.sequence[:, :-1]

    @property
    def targets(self) -> Tensor:
        """(B, L) what each position predicts, 0 where there is nothing to predict from or to."""
        return torch.where(self.history > 0, self.sequence[:, 1:], 0)

    def to(self, device: torch.device) -> Self:
        """The same batch on ``device``, but for the content, which is moved as it is encoded."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("users", "sequence", "slots", "distinct", "counts")
        }
        return type(self)(**moved, num_targets=self.num_targets, share=self.share)


@dataclass(frozen=True)
class Place:
    """Which of how many processes this one is."""

    rank: int = 0
    world: int = 1

    def share_of(self, count: int) -> slice:
        """The contiguous part of ``count`` things that falls to this process; the last part may be shorter."""
        size = -(-count // self.world)
        return slice(min(self.rank * size, count), min((self.rank + 1) * size, count))


def make_batch(sequence: Int32, users: Int64, content: ItemContent, place: Place | None = None) -> Batch:
    """Turn the left-padded sequences (B, S) of ``users`` (B,) of the whole batch into the batch of one process."""
    place = place or Place()
    distinct, slots, counts = np.unique(sequence, return_inverse=True, return_counts=True)
    slots = slots.reshape(sequence.shape)
    if distinct[0] == 0:  # padding sorts first: take it out and give it the slot behind the last item
        distinct, counts = distinct[1:], counts[1:]
        slots = np.where(slots == 0, len(distinct), slots - 1)
    own = slice(place.rank, None, place.world)
    items = distinct[place.share_of(len(distinct))].astype(np.int64)
    return Batch(
        users=torch.from_numpy(users[own]),
        sequence=torch.from_numpy(sequence[own].astype(np.int64)),
        slots=torch.from_numpy(slots[own]),
        distinct=torch.from_numpy(distinct.astype(np.int64)),
        counts=torch.from_numpy(counts),
        num_targets=int(np.count_nonzero(sequence[:, :-1])),
        share=ItemBatch(items=torch.from_numpy(items), content=content.read(items)),
    )


def train_batches(
    split: Split,
    content: ItemContent,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    skip: int = 0,
    place: Place | None = None,
    alone: bool = False,
) -> Iterator[Batch]:
    """The batches of one epoch, users in an order that depends on ``seed`` and ``epoch`` alone.

    The first ``skip`` batches are left out without being read, which is how an interrupted epoch goes on. With several
    processes, ``alone`` makes each one's users a batch of their own; a last one with too few users for all is left out.
    """
    place = place or Place()
    order = np.random.default_rng([seed, epoch]).permutation(split.num_users)
    for start in range(skip * batch_size, len(order), batch_size):
        users = order[start : start + batch_size]
        if alone and len(users) < place.world:
            return
        if alone:
            users = users[place.rank :: place.world]
        yield make_batch(split.train_sequences(users), users, content, Place() if alone else place)


def ahead(values: Iterable[T], depth: int) -> Iterator[T]:
    """Draw ``values`` in a background thread, up to ``depth`` ahead, so that reading content overlaps with training."""
    drawer = ThreadPoolExecutor(1)
    iterator = iter(values)
    done = object()
    pending = deque(drawer.submit(next, iterator, done) for _ in range(depth))
    try:
        while (value := pending.popleft().result()) is not done:
            pending.append(drawer.submit(next, iterator, done))
            yield cast(T, value)
    finally:
        drawer.shutdown(cancel_futures=True)
