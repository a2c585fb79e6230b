"""The cells of a text table of events, read block by block."""

import csv
import re
from collections.abc import Iterable, Iterator
from io import StringIO
from itertools import islice

import polars as pl

from microlens.errors import InputError
from microlens.release.columns import Columns
from microlens.release.formats import hint_for
from microlens.release.ids import ACCEPTED as IDS_ACCEPTED
from microlens.release.ids import TextIds
from microlens.release.text_blocks import Block
from microlens.release.text_files import TextFile, first_line, lines_of

COLUMNS = ("user", "item", "timestamp")
ACCEPTED = f"user,item,timestamp in each line, or further columns under a header that names these; {IDS_ACCEPTED}"
_VALUE = r'(?:"[^",;|\t\n]*+"|[^",;|\t\n]*+)'
_NEEDS_NO_QUOTES = re.compile(rf"(?:{_VALUE}[,;|\t\n])*+{_VALUE}".encode())
_TEXTS = {"line": pl.UInt32, **dict.fromkeys(COLUMNS, pl.String)}
_QUOTED_AT_ONCE = 1 << 16  # rows
_Row = tuple[int, str, str, str]


def read_cells(text: TextFile, blocks: Iterable[Block], columns: Columns, kinds: TextIds) -> Iterator[pl.DataFrame]:
    """Read the rows of a table: columns line, user, item and timestamp, as integers or text.

    Args:
        text: path and first line of the table, for messages.
        blocks: its blocks, without a header.
        columns: its columns.
        kinds: which ids are text.

    Yields:
        Frames of at least one row.

    Raises:
        InputError: a line has a wrong number of columns, or quotes are unbalanced.
    """
    remaining = iter(blocks)
    rest: Block | None = None
    while (block := rest or next(remaining, None)) is not None:
        rest = None
        number, content = block
        if b'"' in content and _NEEDS_NO_QUOTES.fullmatch(content):
            content = content.replace(b'"', b"")
        if b'"' in content:
            quoted = _QuotedRows(text, number, _Lines(content, remaining), columns)
            while rows := list(islice(quoted, _QUOTED_AT_ONCE)):
                yield pl.DataFrame(rows, orient="row", schema=_TEXTS)
            rest = quoted.rest()
            continue
        frame = _all_plain(content.rstrip(b"\n"), number, columns, kinds)
        if frame is None:
            frame = _unquoted(text, content, number, columns)
        if len(frame):
            yield frame


def first_cells(text: TextFile, blocks: Iterable[Block], columns: Columns) -> tuple[str, str] | None:
    """The user and item of the first row, as text; None if there is no row. Raises as :func:`read_cells`."""
    remaining = iter(blocks)
    for number, content in remaining:
        found = first_line(content)
        if found is None:
            continue
        begin, line, _ = found
        if b'"' in content:
            row = next(_QuotedRows(text, number, _Lines(content, remaining), columns), None)
        else:
            end = content.find(b"\n", begin)
            only = content[begin : end if end >= 0 else None]
            row = _unquoted(text, only, number + line - 1, columns).row(0)
        return None if row is None else (row[1], row[2])
    return None


def wrong_width(text: TextFile, line: int, found: int, width: int) -> InputError:
    """The error of a line with ``found`` instead of ``width`` columns."""
    columns = f"{found:,} column{'s' if found != 1 else ''} instead of {width}"
    return InputError(f"{text.path}, line {line}: {columns}; expected {ACCEPTED}{hint_for(text)}.")


def _all_plain(content: bytes, number: int, columns: Columns, kinds: TextIds) -> pl.DataFrame | None:
    """Fast path: the events if no line is blank and all values except text ids are 64-bit integers; else None."""
    names = [f"column {index}" for index in range(columns.width)]
    whole = {columns.positions[name] for name in COLUMNS if not getattr(kinds, name, False)}
    types = [pl.Int64 if index in whole else pl.String for index in range(columns.width)]
    try:
        frame = pl.read_csv(
            content,
            has_header=False,
            separator=columns.separator,
            quote_char=None,
            new_columns=names,
            schema_overrides=types,
            glob=False,
        )
    except pl.exceptions.PolarsError:
        return None
    frame = frame.select(pl.nth(columns.positions[name]).alias(name) for name in COLUMNS)
    if frame.null_count().sum_horizontal().item():
        return None
    return frame.with_row_index("line", offset=number)


def _unquoted(text: TextFile, content: bytes, number: int, columns: Columns) -> pl.DataFrame:
    rows = lines_of(content, number)
    widths = rows.select(pl.col("text").str.count_matches(columns.separator, literal=True) + 1).to_series()
    wrong = widths != columns.width
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise wrong_width(text, rows["line"][row], widths[row], columns.width)
    cells = pl.col("text").str.split(columns.separator)
    return rows.select("line", *(cells.list.get(columns.positions[name]).alias(name) for name in COLUMNS))


class _Lines:
    """The lines of a block and, where a quoted value goes on, of the blocks after it."""

    def __init__(self, content: bytes, following: Iterator[Block]) -> None:
        self._following = following
        self._has_moved = False
        self._enter(content)

    def _enter(self, content: bytes) -> None:
        text = content.decode()
        self._lines, self._length = StringIO(text, newline="\n"), len(text)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._lines.readline()
        if line:
            return line
        _, content = next(self._following)
        self._has_moved = True
        self._enter(content)
        return next(self)

    @property
    def is_finished(self) -> bool:
        """True if all lines of the first block were read."""
        return self._has_moved or self._lines.tell() == self._length

    def rest(self) -> bytes:
        """The lines of the last block that were not read."""
        return self._lines.read().encode()


class _QuotedRows:
    """Iterates over the line and values of every row of a block, parsed as CSV with quotes."""

    def __init__(self, text: TextFile, number: int, lines: _Lines, columns: Columns) -> None:
        self._text, self._number, self._lines, self._columns = text, number, lines, columns
        self._reader = csv.reader(lines, delimiter=columns.separator, strict=True, skipinitialspace=True)

    def __iter__(self) -> Iterator[_Row]:
        return self

    def __next__(self) -> _Row:
        while not self._lines.is_finished:
            line = self._number + self._reader.line_num
            try:
                cells = next(self._reader)
            except csv.Error as error:
                fault = f"its quotes cannot be parsed ({error}); expected {ACCEPTED}."
                raise InputError(f"{self._text.path}, line {line}: {fault}") from None
            if len(cells) <= 1 and not "".join(cells).strip():
                continue
            if len(cells) != self._columns.width:
                raise wrong_width(self._text, line, len(cells), self._columns.width)
            user, item, time = (cells[self._columns.positions[name]] for name in COLUMNS)
            return line, user, item, time
        raise StopIteration

    def rest(self) -> Block | None:
        """What was not read of the block after a value that goes on in it."""
        content = self._lines.rest()
        return (self._number + self._reader.line_num, content) if content else None
