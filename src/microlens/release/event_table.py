"""Reading a text table of events, one per line: user, item and time, in any order of columns."""

import csv
import re
from collections.abc import Iterator
from io import StringIO

import polars as pl

from microlens.errors import InputError
from microlens.release.columns import ITEM, TIME, USER, Columns, columns_by_name, likeliest_separator, split_line
from microlens.release.formats import hint_for
from microlens.release.ids import ACCEPTED as IDS_ACCEPTED
from microlens.release.ids import TextIds, ids, is_text, why_no_id
from microlens.release.text_files import TextFile, lines_of, shown

COLUMNS = ("user", "item", "timestamp")
ACCEPTED = f"user,item,timestamp in each line, or further columns under a header that names these; {IDS_ACCEPTED}"
_NAMES = {"user": USER, "item": ITEM, "timestamp": TIME}
_VALUE = r'(?:"[^",;|\t\n]*+"|[^",;|\t\n]*+)'
_NEEDS_NO_QUOTES = re.compile(rf"(?:{_VALUE}[,;|\t\n])*+{_VALUE}".encode())


def find_columns(text: TextFile, first: int, line: str) -> Columns:
    """Find the columns of a table of events from its first non-blank line, whose number is ``first``.

    Raises:
        InputError: the line neither names all columns nor contains one event.
    """
    columns = columns_by_name(line, _NAMES)
    if columns is not None:
        return columns
    separator = likeliest_separator(line)
    cells = split_line(line, separator)
    if not any(re.match(r"[-+.\d]", cell) for cell in cells):
        raise InputError(
            f"{text.path}, line {first}: the columns are '{shown(line.strip())}'; expected {ACCEPTED}{hint_for(text)}."
        )
    if len(cells) != len(COLUMNS):
        raise _wrong_width(text, first, len(cells), len(COLUMNS))
    return Columns(separator=separator, width=3, positions={"user": 0, "item": 1, "timestamp": 2}, header=False)


def read_event_table(text: TextFile, begin: int, first: int, columns: Columns) -> pl.DataFrame:
    """Read the events of a table in file order: columns line, user, item, and timestamp as integers or text.

    Users and items are integers or text, depending on the first event.

    Args:
        text: file to read.
        begin: byte offset of the first non-blank line.
        first: number of that line.
        columns: columns of the table.

    Raises:
        InputError: a line has a wrong number of columns, or an id of another type than the first event.
    """
    content, number = text.content[begin:].rstrip(b"\n"), first
    if columns.header:
        content, number = content.partition(b"\n")[2], first + 1
    if b'"' in content and _NEEDS_NO_QUOTES.fullmatch(content):
        content = content.replace(b'"', b"")
    if b'"' in content:
        rows = pl.DataFrame(_quoted_rows(text, content, number, columns), orient="row", schema=_TEXTS)
        return _with_ids(text, rows, _text_ids(rows))
    kinds = _text_ids_of_first_line(content, columns)
    frame = _all_plain(content, number, columns, kinds)
    if frame is not None:
        return _with_ids(text, frame, kinds) if kinds.user or kinds.item else frame
    rows = _unquoted_cells(text, content, number, columns)
    return _with_ids(text, rows, _text_ids(rows))


_TEXTS = {"line": pl.UInt32, **dict.fromkeys(COLUMNS, pl.String)}


def _text_ids(rows: pl.DataFrame) -> TextIds:
    """Which ids are text, decided by the first of ``rows``."""
    return TextIds(**{name: bool(len(rows)) and is_text(rows[name][0]) for name in ("user", "item")})


def _text_ids_of_first_line(content: bytes, columns: Columns) -> TextIds:
    """Which ids are text, decided by the first line; none if it is malformed or blank."""
    end = content.find(b"\n")
    cells = split_line(content[: end if end >= 0 else None].decode(), columns.separator)
    if len(cells) != columns.width:
        return TextIds()
    return TextIds(**{name: is_text(cells[columns.positions[name]]) for name in ("user", "item")})


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
    """Yield the line and values of every event, parsed as CSV with quotes."""
    reader = csv.reader(StringIO(content.decode()), delimiter=columns.separator, strict=True, skipinitialspace=True)
    while True:
        line = number + reader.line_num
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{text.path}, line {line}: its quotes cannot be parsed ({error}); expected {ACCEPTED}."
            ) from None
        if cells is None:
            return
        if len(cells) <= 1 and not "".join(cells).strip():
            continue
        if len(cells) != columns.width:
            raise _wrong_width(text, line, len(cells), columns.width)
        yield (line, *(cells[columns.positions[name]] for name in COLUMNS))  # type: ignore[misc]


def _with_ids(text: TextFile, cells: pl.DataFrame, kinds: TextIds) -> pl.DataFrame:
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


def _wrong_width(text: TextFile, line: int, found: int, width: int) -> InputError:
    columns = f"{found:,} column{'s' if found != 1 else ''} instead of {width}"
    return InputError(f"{text.path}, line {line}: {columns}; expected {ACCEPTED}{hint_for(text)}.")
