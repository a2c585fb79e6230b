"""Training batches; each distinct item of a batch is read once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from microlens.data.content import ItemContent
from microlens.data.examples import ExampleKind, Examples, rows_of_targets
from microlens.data.interactions import Int32, Int64
from microlens.data.negatives import Negatives
from microlens.data.new_items import NewItem
from microlens.data.split import Split

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ItemBatch:
    """Distinct items: numbers ``items`` (M,), and ``content`` by kind, (M, ...) as stored on disk.

    Items outside the catalogue have number 0, as padding, and are described in ``new`` (M,).
    """

    items: Tensor
    content: dict[str, Tensor] = field(default_factory=dict)
    new: tuple[NewItem, ...] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def at(self, rows: Tensor | slice) -> Self:
        """Select the items at ``rows``, indices (m,) or a slice, with their content."""
        new = self.new
        if new is not None:
            new = tuple(new[row] for row in torch.arange(len(new), device=self.items.device)[rows].tolist())
        content = {kind: values[rows] for kind, values in self.content.items()}
        return type(self)(items=self.items[rows], content=content, new=new)

    def to(self, device: torch.device) -> Self:
        """Move items and content to ``device``."""
        return type(self)(
            items=self.items.to(device, non_blocking=True),
            content={kind: values.to(device, non_blocking=True) for kind, values in self.content.items()},
            new=self.new,
        )

    def pinned(self) -> Self:
        """A copy in page-locked memory, from which copies to a GPU are fast and do not block."""
        return type(self)(
            items=self.items.pin_memory(),
            content={kind: values.pin_memory() for kind, values in self.content.items()},
            new=self.new,
        )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Left-padded sequences of items, and the slot (index) of each item among the M distinct items of the batch.

    In distributed training, all processes share one global batch: ``sequence``, ``slots`` and ``users`` are the rows of
    this process; ``distinct``, ``counts`` and ``num_targets`` refer to the global batch; ``share`` holds the content of
    the distinct items that this process encodes for all. A single process has all rows and all items.

    Shapes, with S = L + 1: ``users`` (B,); ``sequence`` and ``slots`` (B, S), where padding is 0 in ``sequence`` and M
    in ``slots``; ``own`` (B, H), slots of the users' training items, M for items not in the batch; ``distinct`` (M,),
    item numbers; ``counts`` (M,), number of occurrences of each in the sequences. ``negatives`` are slots of sampled
    items: (Q, K) for each of this process's Q targets, or (K,) for all. If ``last_only``, the only target of a row is
    its last item.
    """

    users: Tensor
    sequence: Tensor
    slots: Tensor
    own: Tensor
    distinct: Tensor
    counts: Tensor
    num_targets: int
    share: ItemBatch
    negatives: Tensor | None = None
    last_only: bool = False

    @property
    def history(self) -> Tensor:
        """The input items: (B, L)."""
        return self.sequence[:, :-1]

    @property
    def targets(self) -> Tensor:
        """The target of each position: (B, L), 0 where the position or its target is padding."""
        return torch.where(self.history > 0, self.sequence[:, 1:], 0)

    def target_slots(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row (Q,), position in the history (Q,) and slot (Q,) of each of this process's targets, sorted by row."""
        if self.last_only:
            rows = torch.arange(len(self.users), device=self.users.device)
            return rows, torch.full_like(rows, self.history.shape[1] - 1), self.slots[:, -1]
        rows, positions = self.targets.nonzero(as_tuple=True)
        return rows, positions, self.slots[rows, positions + 1]

    def to(self, device: torch.device) -> Self:
        """Move the batch to ``device``, except for the content, which is moved when it is encoded."""
        return self._with_each(lambda values: values.to(device, non_blocking=True))

    def pinned(self) -> Self:
        """A copy in page-locked memory, with the content; see :meth:`ItemBatch.pinned`."""
        return replace(self._with_each(Tensor.pin_memory), share=self.share.pinned())

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The batch with ``change`` applied to all tensors but the content."""
        names = ("users", "sequence", "slots", "own", "distinct", "counts")
        negatives = None if self.negatives is None else change(self.negatives)
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in names}
        return replace(self, **changed, negatives=negatives)


@dataclass(frozen=True)
class Process:
    """Rank of this process and the number of processes."""

    rank: int = 0
    world_size: int = 1

    def share_of(self, count: int) -> slice:
        """The contiguous share of ``count`` elements of this process; the last shares may be shorter or empty."""
        size = -(-count // self.world_size)
        return slice(min(self.rank * size, count), min((self.rank + 1) * size, count))


def make_batch(
    sequence: Int32,
    users: Int64,
    content: ItemContent,
    process: Process | None = None,
    *,
    own: Int32 | None = None,
    negatives: Int64 | None = None,
    candidates: Int64 | None = None,
    last_only: bool = False,
) -> Batch:
    """Build the batch of one process from the sequences of the global batch.

    Args:
        sequence: (B, S) left-padded item numbers, 0 at padding.
        users: (B,) user numbers.
        content: content that the item tower reads.
        process: process whose batch is built.
        own: (B, H) training items of the users, 0 at padding; None if ``sequence`` contains all of them.
        negatives: (Q, K) items sampled for each target of the global batch, or (K,) for all targets.
        candidates: items added to the batch even if they do not occur in it.
        last_only: True if the only target of a row is its last item.
    """
    process = process or Process()
    added = [values.ravel() for values in (negatives, candidates) if values is not None]
    distinct, counts = _distinct(sequence, added)
    share = slice(process.rank, None, process.world_size)
    items = distinct[process.share_of(len(distinct))]
    targets_of = rows_of_targets(sequence, last_only=last_only)
    if negatives is not None and negatives.ndim == 2:
        negatives = negatives[targets_of % process.world_size == process.rank]
    return Batch(
        users=torch.from_numpy(users[share]),
        sequence=torch.from_numpy(sequence[share].astype(np.int64)),
        slots=_slots(sequence[share], distinct),
        own=_slots((sequence if own is None else own)[share], distinct),
        distinct=torch.from_numpy(distinct),
        counts=torch.from_numpy(counts),
        num_targets=len(targets_of),
        share=ItemBatch(items=torch.from_numpy(items), content=content.read(items)),
        negatives=None if negatives is None else _slots(negatives, distinct),
        last_only=last_only,
    )


def _distinct(sequence: Int32, added: list[Int64]) -> tuple[Int64, Int64]:
    """The distinct items (M,) of ``sequence`` and ``added``, and the number of occurrences (M,) in ``sequence``."""
    occurring, occurrences = np.unique(sequence, return_counts=True)
    real = slice(int(occurring[0] == 0), None)
    numbers, counts = occurring[real].astype(np.int64), occurrences[real].astype(np.int64)
    if not added:
        return numbers, counts
    # With many sampled items, marking those that occur is cheaper than sorting all.
    occurs = np.zeros(1 + max(int(values.max()) for values in [numbers, *added]), np.int64)
    for values in added:
        occurs[values] = 1
    occurs[numbers] = 1
    distinct = np.flatnonzero(occurs)
    occurs[numbers] = counts + 1
    return distinct, occurs[distinct] - 1


def _slots(items: Int32 | Int64, distinct: Int64) -> Tensor:
    """The index of each of ``items`` (...) in the ascending ``distinct`` (M,); M if it is not in there."""
    positions = np.minimum(np.searchsorted(distinct, items), len(distinct) - 1)
    return torch.from_numpy(np.where(distinct[positions] == items, positions, len(distinct)))


def train_batches(
    split: Split,
    content: ItemContent,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    skip: int = 0,
    process: Process | None = None,
    alone: bool = False,
    examples: ExampleKind = "sequences",
    negatives: Negatives | None = None,
) -> Iterator[Batch]:
    """Yield the batches of one epoch, in an order that depends on ``seed`` and ``epoch`` only.

    The first ``skip`` batches are skipped without reading their content, to resume an interrupted epoch. If ``alone``,
    the examples of each process form a batch of their own; a last batch with fewer examples than processes is dropped.
    """
    process = process or Process()
    source = Examples(split, examples)
    order = np.random.default_rng([seed, epoch]).permutation(len(source))
    for start in range(skip * batch_size, len(order), batch_size):
        numbers = order[start : start + batch_size]
        if alone and len(numbers) < process.world_size:
            return
        if alone:
            numbers = numbers[process.rank :: process.world_size]
        users, sequence = source.rows(numbers)
        own = split.train_items(users)
        drawn = candidates = None
        if negatives is not None:
            random = np.random.default_rng([seed, epoch, start])
            drawn = negatives.draw(random, source.targets_of(sequence), own)
            candidates = negatives.candidates
        yield make_batch(
            sequence,
            users,
            content,
            Process() if alone else process,
            own=own,
            negatives=drawn,
            candidates=candidates,
            last_only=source.last_only,
        )


def prefetch(values: Iterable[T], depth: int) -> Iterator[T]:
    """Iterate over ``values`` in a background thread, up to ``depth`` ahead, to overlap reading with training."""
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
