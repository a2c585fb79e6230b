"""A text table of events, one per line: user, item and time, in any order of columns."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl

from microlens.errors import InputError
from microlens.release.columns import ITEM, TIME, USER, Columns, columns_by_name, likeliest_separator, split_line
from microlens.release.event_cells import ACCEPTED, COLUMNS, first_cells, read_cells, wrong_width
from microlens.release.events import Events
from microlens.release.formats import hint_for
from microlens.release.ids import TextIds, ids, is_text, notes_of_ids, why_no_id
from microlens.release.text_blocks import Block, TextBlocks
from microlens.release.text_files import TextFile, shown
from microlens.release.timestamps import ACCEPTED as TIMES_ACCEPTED
from microlens.release.timestamps import Clock, TimestampFault

NAMES = {"user": USER, "item": ITEM, "timestamp": TIME}
"""Accepted names of the columns."""
_COLUMN_NUMBERS = (0, 1, 2)  # the header that pandas writes for unnamed columns


class TableEvents(Events):
    """The events of a text table; users and items are integers or text, depending on the first event.

    Args:
        blocks: the table.
        text: its path, and its first line that is not blank, for messages.
        first: number of that line.

    Raises:
        InputError: the line neither names all columns nor contains one event, or the first event is invalid.
    """

    def __init__(self, blocks: TextBlocks, text: TextFile, first: int) -> None:
        self._blocks, self._text, self._first, self._line = blocks, text, first, text.content.decode()
        self._columns = _find_columns(text, first, self._line)
        self._clock = Clock()
        found = first_cells(text, self._rows(), self._columns)
        if found is None:
            raise InputError(f"{text.path} holds no interactions; expected {ACCEPTED}.")
        self._first_ids = found
        self.text_ids = TextIds(user=is_text(found[0]), item=is_text(found[1]))

    def batches(self) -> Iterator[pl.DataFrame]:
        """Read the events, a batch per block."""
        first: tuple[object, ...] = ()
        for cells in read_cells(self._text, self._rows(), self._columns, self.text_ids):
            frame = _with_ids(self._text, cells, self.text_ids)
            with self._naming_lines():
                times = self._clock.read(frame["timestamp"], frame["line"])
            first = first or frame.row(0)[1:]
            yield frame.select("user", "item", times.alias("timestamp"))
        with self._naming_lines():
            self._clock.finish()
        self.unit = self._clock.unit
        if self.unit and not self._columns.header and first == _COLUMN_NUMBERS:
            raise InputError(
                f"{self._text.path}, line {self._first}: '{self._line}' are column numbers; remove the line."
            )

    @property
    def progress(self) -> tuple[int, int]:
        """MB of text that were read, and of the whole table."""
        return self._blocks.progress

    def notes(self, num_users: int) -> list[str]:
        """The encoding, ignored columns, the unit of time, and which ids are text."""
        name, told = self._text.path.name, self._clock.note
        times = [f"{name}: {told}"] if told else []
        texts = notes_of_ids(name, self.text_ids, self._first_ids)
        return [*self._blocks.notes, *self._columns.note(name), *times, *texts]

    def _rows(self) -> Iterator[Block]:
        """The blocks of the table, the first from its first row."""
        skipped = self._first - (not self._columns.header)  # lines
        for number, block in self._blocks:
            begin = 0
            for _ in range(number, skipped + 1):
                begin = block.find(b"\n", begin) + 1 or len(block)
            if begin < len(block):
                yield max(number, skipped + 1), block[begin:] if begin else block

    @contextmanager
    def _naming_lines(self) -> Iterator[None]:
        """Turn a fault of a timestamp into InputError with its line."""
        try:
            yield
        except TimestampFault as fault:
            raise InputError(f"{self._text.path}, line {fault.row}: {fault}; expected {TIMES_ACCEPTED}.") from None


def _find_columns(text: TextFile, first: int, line: str) -> Columns:
    """Find the columns of a table of events from its first non-blank line, whose number is ``first``."""
    columns = columns_by_name(line, NAMES)
    if columns is not None:
        return columns
    separator = likeliest_separator(line)
    cells = split_line(line, separator)
    if not any(re.match(r"[-+.\d]", cell) for cell in cells):
        raise InputError(
            f"{text.path}, line {first}: the columns are '{shown(line.strip())}'; expected {ACCEPTED}{hint_for(text)}."
        )
    if len(cells) != len(COLUMNS):
        raise wrong_width(text, first, len(cells), len(COLUMNS))
    return Columns(separator=separator, width=3, positions={"user": 0, "item": 1, "timestamp": 2}, header=False)


def _with_ids(text: TextFile, cells: pl.DataFrame, kinds: TextIds) -> pl.DataFrame:
    """Parse the ids that are text in ``cells``, as integers or text."""
    written = {"user": kinds.user, "item": kinds.item}
    frame = cells.with_columns(
        ids(pl.col(name), text=of_text) for name, of_text in written.items() if cells.schema[name] == pl.String
    )
    for name, of_text in written.items():
        wrong = frame[name].is_null()
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            why = why_no_id(cells[name][row], text=of_text)
            raise InputError(f"{text.path}, line {frame['line'][row]}: {why}; expected {ACCEPTED}.")
    return frame
