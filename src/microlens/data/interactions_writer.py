"""Writing the interactions of a dataset, part by part."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from microlens.data.arrays import ArrayWriter
from microlens.data.interactions import ARRAYS, Int64, Interactions
from microlens.data.parquet_tables import ROWS, write_table
from microlens.data.protocol import Protocol
from microlens.data.split import make_split, nobody_left
from microlens.files.progress_bar import OnProgress
from microlens.release.ids import Id, TextIds
from microlens.release.sorted_events import Part, SortedEvents

EXAMPLES = 10  # number of dropped elements named in the manifest
ITEM_IDS = "item_ids.parquet"
TABLES = ("interactions.parquet", "users.parquet", ITEM_IDS, *(f"interactions/{name}.npy" for name in ARRAYS))
"""The files that :func:`write_interactions` writes."""
PIECES = "[0-9]*.part.parquet"
"""Pattern of the files that it writes in between."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers of users, items and interactions."""

    users: int
    items: int
    interactions: int


@dataclass(frozen=True, kw_only=True)
class Described:
    """What the manifest says about interactions.

    ``kept`` are the sizes under the paper's protocol, which leaves out ``short`` users; ``short_users`` names some.
    ``repeated`` and ``out_of_order`` are the counts of :class:`microlens.release.sorted_events.Part`.
    """

    sizes: Sizes
    kept: Sizes
    repeated: int
    out_of_order: int
    short: int
    short_users: list[Id]
    text_ids: TextIds
    notes: list[str]


def write_interactions(ordered: SortedEvents, folder: Path, on_progress: OnProgress | None = None) -> Described:
    """Write the arrays and tables of interactions into ``folder``, in which there are none.

    Args:
        ordered: the interactions.
        folder: folder to write to.
        on_progress: called with (done, total) interactions.

    Raises:
        OSError: the disk is full.
    """
    (folder / "interactions").mkdir(exist_ok=True)
    summary = _Summary(ordered)
    with ExitStack() as stack:
        arrays = _Arrays(ordered, folder / "interactions", stack)

        def rows() -> Iterator[pl.DataFrame]:
            for number, part in enumerate(ordered.parts()):
                arrays.append(part)
                summary.add(part)
                lengths = pl.Series("num_interactions", np.diff(part.offsets), pl.UInt32)
                users = pl.DataFrame([part.user_ids.alias("user_id"), lengths])
                users.write_parquet(folder / f"{number}.part.parquet")
                if on_progress:
                    on_progress(summary.events_read, ordered.num_events)
                yield from _with_ids(part, ordered.item_ids)
                del part  # before the next one is made

        write_table(rows(), folder / "interactions.parquet")
    pieces = sorted(folder.glob(PIECES), key=lambda path: int(path.name.partition(".")[0]))
    write_table((pl.read_parquet(piece, glob=False) for piece in pieces), folder / "users.parquet")
    write_table([pl.DataFrame({"item_id": ordered.item_ids})], folder / ITEM_IDS)
    return summary.described(ordered.notes)


def _with_ids(part: Part, item_ids: pl.Series) -> Iterator[pl.DataFrame]:
    """The events of a part: columns user, item and timestamp."""
    users = np.repeat(np.arange(len(part.user_ids), dtype=np.int32), np.diff(part.offsets))
    for start in range(0, len(users), ROWS):
        here = slice(start, start + ROWS)
        yield pl.DataFrame(
            [
                part.user_ids.gather(users[here]).alias("user"),
                item_ids.gather(part.items[here] - 1).alias("item"),
                pl.Series("timestamp", part.times[here]),
            ]
        )


class _Arrays:
    """Writes the arrays of :class:`Interactions`, in files that ``stack`` closes."""

    def __init__(self, ordered: SortedEvents, folder: Path, stack: ExitStack) -> None:
        self._writers = {
            name: stack.enter_context(ArrayWriter(folder / f"{name}.npy", dtype)) for name, dtype in ARRAYS.items()
        }
        self._num_users = self._num_events = 0
        self._writers["offsets"].append(np.zeros(1, np.int64))
        self._writers["item_ids"].append(np.concatenate([[0], _keys(ordered.item_ids, 1)]))

    def append(self, part: Part) -> None:
        """Append the events of the next users."""
        self._writers["offsets"].append(self._num_events + part.offsets[1:])
        self._writers["items"].append(part.items)
        self._writers["times"].append(part.times)
        self._writers["user_ids"].append(_keys(part.user_ids, self._num_users + 1))
        self._num_users += len(part.user_ids)
        self._num_events += len(part.items)


def _keys(ids: pl.Series, first: int) -> Int64:
    """The keys (n,) of ascending ``ids`` (n,): integers themselves, numbers from ``first`` for text."""
    return np.arange(first, first + len(ids)) if ids.dtype == pl.String else ids.to_numpy()


class _Summary:
    """Counts what :class:`Described` holds, part by part."""

    def __init__(self, ordered: SortedEvents) -> None:
        self._protocol = Protocol()
        self._text_ids, self._item_ids = ordered.text_ids, ordered.item_ids
        self._item_keys = np.concatenate([[0], _keys(ordered.item_ids, 1)])
        self._items_kept = np.zeros(len(self._item_keys), bool)
        self._users = self._events = self._users_kept = self._events_kept = self._longest = 0
        self._repeated = self._out_of_order = self._short = 0
        self._short_users: list[Id] = []

    @property
    def events_read(self) -> int:
        """Number of interactions, with repeated ones."""
        return self._events + self._repeated

    def add(self, part: Part) -> None:
        """Count the events of the next users."""
        lengths = np.diff(part.offsets)
        short = np.flatnonzero(lengths < self._protocol.min_length)
        self._users += len(lengths)
        self._events += len(part.items)
        self._repeated += part.repeated
        self._out_of_order += part.out_of_order
        self._longest = max(self._longest, int(lengths.max(initial=0)))
        self._short += len(short)
        missing = EXAMPLES - len(self._short_users)
        self._short_users += part.user_ids.gather(short[:missing]).to_list()
        if len(short) < len(lengths):
            self._count_kept(part)

    def _count_kept(self, part: Part) -> None:
        keys = _keys(part.user_ids, 1)
        split = make_split(
            Interactions(
                offsets=part.offsets, items=part.items, times=part.times, user_ids=keys, item_ids=self._item_keys
            ),
            self._protocol,
        )
        self._users_kept += split.num_users
        self._events_kept += split.num_events
        self._items_kept[split.items_kept] = True

    def described(self, notes: list[str]) -> Described:
        """What was counted in all parts, and ``notes``."""
        if not self._users_kept:
            notes = [*notes, f"for the paper's protocol, {nobody_left(self._users, self._longest, 0, self._protocol)}"]
        items = len(self._item_ids)
        return Described(
            sizes=Sizes(users=self._users, items=items, interactions=self._events),
            kept=Sizes(
                users=self._users_kept,
                items=int(self._items_kept[1:].sum()),
                interactions=self._events_kept,
            ),
            repeated=self._repeated,
            out_of_order=self._out_of_order,
            short=self._short,
            short_users=self._short_users,
            text_ids=self._text_ids,
            notes=notes,
        )
