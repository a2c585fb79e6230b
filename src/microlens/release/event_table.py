"""Events as a text table with a line each: user, item and time, in any order of columns."""

import csv
import re
from collections.abc import Iterator
from io import StringIO

import polars as pl

from microlens.errors import InputError
from microlens.release.columns import (
    ITEM,
    TIME,
    USER,
    Columns,
    columns_by_name,
    integers,
    likeliest_separator,
    split_line,
    why_no_integer,
)  # fmt: skip
from microlens.release.text_files import TextFile, lines_of, shown

COLUMNS = ("user", "item", "timestamp")
ACCEPTED = (
    "user,item,timestamp in each line, or further columns under a header that names these; ids are 64-bit integers"
)
_NAMES = {"user": USER, "item": ITEM, "timestamp": TIME}
_VALUE = r'(?:"[^",;|\t\n]*+"|[^",;|\t\n]*+)'
_NEEDS_NO_QUOTES = re.compile(rf"(?:{_VALUE}[,;|\t\n])*+{_VALUE}".encode())


def find_columns(text: TextFile, first: int, line: str) -> Columns:
    """The columns of a table of events, from its first line that is not blank, which has the number ``first``.

    Raises:
        InputError: the line neither names all columns nor holds one event.
    """
    columns = columns_by_name(line, _NAMES)
    if columns is not None:
        return columns
    separator = likeliest_separator(line)
    cells = split_line(line, separator)
    if not any(re.match(r"[-+.\d]", cell) for cell in cells):
        raise InputError(f"{text.path}, line {first}: the columns are '{shown(line.strip())}'; expected {ACCEPTED}.")
    if len(cells) != len(COLUMNS):
        raise _wrong_width(text, first, len(cells), len(COLUMNS))
    return Columns(separator=separator, width=3, positions={"user": 0, "item": 1, "timestamp": 2}, header=False)


def read_event_table(text: TextFile, begin: int, first: int, columns: Columns) -> pl.DataFrame:
    """The events of a table as they stand: columns line, user, item, and timestamp as integers or else as text.

    Args:
        text: the file.
        begin: where its first line that is not blank begins.
        first: the number of that line.
        columns: where the columns stand.

    Raises:
        InputError: a line has another number of columns, or a user or item that is no 64-bit integer.
    """
    content, number = text.content[begin:].rstrip(b"\n"), first
    if columns.header:
        content, number = content.partition(b"\n")[2], first + 1
    if b'"' in content and _NEEDS_NO_QUOTES.fullmatch(content):
        content = content.replace(b'"', b"")
    if b'"' in content:
        rows = pl.DataFrame(_quoted_rows(text, content, number, columns), orient="row", schema=_TEXTS)
    else:
        frame = _all_integers(content, number, columns)
        if frame is not None:
            return frame
        rows = _unquoted_cells(text, content, number, columns)
    return _with_ids(text, rows)


_TEXTS = {"line": pl.UInt32, **dict.fromkeys(COLUMNS, pl.String)}


def _all_integers(content: bytes, number: int, columns: Columns) -> pl.DataFrame | None:
    """The events, where every value is a plain 64-bit integer and no line is blank: the fast way."""
    names = [f"column {index}" for index in range(columns.width)]
    types = [pl.Int64 if index in columns.positions.values() else pl.String for index in range(columns.width)]
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


def _unquoted_cells(text: TextFile, content: bytes, number: int, columns: Columns) -> pl.DataFrame:
    rows = lines_of(content, number)
    widths = rows.select(pl.col("text").str.count_matches(columns.separator, literal=True) + 1).to_series()
    wrong = widths != columns.width
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise _wrong_width(text, rows["line"][row], widths[row], columns.width)
    cells = pl.col("text").str.split(columns.separator)
    return rows.select("line", *(cells.list.get(columns.positions[name]).alias(name) for name in COLUMNS))


def _quoted_rows(text: TextFile, content: bytes, number: int, columns: Columns) -> Iterator[tuple[int, str, str, str]]:
    """Line and values of every event, read by the rules of CSV."""
    reader = csv.reader(StringIO(content.decode()), delimiter=columns.separator, strict=True, skipinitialspace=True)
    while True:
        line = number + reader.line_num
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{text.path}, line {line}: its quotes cannot be understood ({error}); expected {ACCEPTED}."
            ) from None
        if cells is None:
            return
        if len(cells) <= 1 and not "".join(cells).strip():
            continue
        if len(cells) != columns.width:
            raise _wrong_width(text, line, len(cells), columns.width)
        yield (line, *(cells[columns.positions[name]] for name in COLUMNS))  # type: ignore[misc]


def _with_ids(text: TextFile, cells: pl.DataFrame) -> pl.DataFrame:
    ids = [integers(pl.col(name)) for name in ("user", "item")]
    frame = cells.with_columns(*ids)
    for name in ("user", "item"):
        wrong = frame[name].is_null()
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            raise InputError(
                f"{text.path}, line {frame['line'][row]}: {why_no_integer(cells[name][row])}; expected {ACCEPTED}."
            )
    return frame


def _wrong_width(text: TextFile, line: int, found: int, width: int) -> InputError:
    columns = f"{found:,} column{'s' if found != 1 else ''} instead of {width}"
    return InputError(f"{text.path}, line {line}: {columns}; expected {ACCEPTED}.")
