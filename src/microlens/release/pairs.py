"""Reading the interactions of a release: ``*pairs.csv``, ``*pairs.tsv`` or ``*pairs.parquet``."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from microlens.errors import InputError
from microlens.release.columns import columns_by_name
from microlens.release.event_cells import ACCEPTED as TABLE_ACCEPTED
from microlens.release.event_sequences import ACCEPTED as SEQUENCES_ACCEPTED
from microlens.release.event_sequences import SequenceEvents
from microlens.release.event_table import NAMES, TableEvents
from microlens.release.events import Events
from microlens.release.ids import TextIds
from microlens.release.parquet_events import ParquetEvents
from microlens.release.sorted_events import SortedEvents
from microlens.release.text_blocks import BLOCK_BYTES, open_blocks
from microlens.release.text_files import TextFile, first_line, unpacked_name

_SUFFIX_OF_SEQUENCES, _PARQUET = ".tsv", ".parquet"
_ROWS = 1 << 22  # of a part


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The events of a release, sorted by user, then time, then position in the file.

    ``events`` has the integer columns user, item and timestamp (milliseconds; for a file of sequences, the position in
    the user's sequence without repeats). If user ids are text, the column user numbers them from 1, and ``user_ids``
    (U,) holds the ids in this order, ascending; if they are integers, it is None. Items likewise. ``repeated`` counts
    later repeats of a (user, item) pair, which were dropped; ``out_of_order`` counts events listed in the file before
    an earlier event of the same user; ``notes`` describes choices made in reading the file.
    """

    events: pl.DataFrame
    repeated: int
    out_of_order: int
    notes: tuple[str, ...] = ()
    user_ids: pl.Series | None = None
    item_ids: pl.Series | None = None

    @property
    def text_ids(self) -> TextIds:
        """Which ids are text."""
        return TextIds(user=self.user_ids is not None, item=self.item_ids is not None)

    def with_ids(self) -> pl.DataFrame:
        """``events`` with the original ids."""
        named = {"user": self.user_ids, "item": self.item_ids}
        return self.events.with_columns(
            texts.gather(self.events[name] - 1).alias(name) for name, texts in named.items() if texts is not None
        )


def open_events(path: Path, block_bytes: int = BLOCK_BYTES) -> Events:
    """Open a pairs file: a table with one line per event, or one line per user with items in order of time.

    Args:
        path: file to read.
        block_bytes: size of the blocks that are read at once.

    Raises:
        InputError: the file is empty or not text, or its first lines are invalid. Reading it raises InputError if a
            line has the wrong number of columns, an id of another type than the first, or a timestamp that is invalid
            or has another format than the others.
    """
    if _suffix(path) == _PARQUET:
        return ParquetEvents(path)
    blocks = open_blocks(path, block_bytes)
    for number, content in blocks:
        found = first_line(content)
        if found is not None:
            _, line, text = found
            table = SequenceEvents if _is_sequence(path, text) else TableEvents
            return table(blocks, TextFile(path=path, content=text.encode()), number + line - 1)
    accepted = SEQUENCES_ACCEPTED if _suffix(path) == _SUFFIX_OF_SEQUENCES else TABLE_ACCEPTED
    raise InputError(f"{path} is empty; expected {accepted}.")


def read_pairs(path: Path) -> Pairs:
    """Read a pairs file into memory; see :func:`open_events`."""
    return pairs_of(open_events(path))


def pairs_of(events: Events, rows: int = _ROWS) -> Pairs:
    """Read and sort events in memory, ``rows`` at a time; raises as :meth:`microlens.release.events.Events.batches`."""
    with TemporaryDirectory() as folder:
        ordered = SortedEvents(events, Path(folder), rows)
        parts = list(ordered.parts())
    users, items = pl.concat([part.user_ids for part in parts]), ordered.item_ids
    text_ids = ordered.text_ids
    keys = np.arange(1, len(users) + 1) if text_ids.user else users.to_numpy()
    item_keys = np.arange(1, len(items) + 1) if text_ids.item else items.to_numpy()
    frame = pl.DataFrame(
        {
            "user": np.repeat(keys, np.concatenate([np.diff(part.offsets) for part in parts])),
            "item": item_keys[np.concatenate([part.items for part in parts]) - 1],
            "timestamp": np.concatenate([part.times for part in parts]),
        }
    )
    return Pairs(
        events=frame,
        repeated=sum(part.repeated for part in parts),
        out_of_order=sum(part.out_of_order for part in parts),
        notes=tuple(ordered.notes),
        user_ids=users if text_ids.user else None,
        item_ids=items if text_ids.item else None,
    )


def _suffix(path: Path) -> str:
    return Path(unpacked_name(path).lower()).suffix


def _is_sequence(path: Path, line: str) -> bool:
    """True if each line is a user with all items, and not one event, decided by the first line."""
    if columns_by_name(line, NAMES) is not None:
        return False
    return _suffix(path) == _SUFFIX_OF_SEQUENCES or (line.count("\t") == 1 and "," not in line and ";" not in line)
