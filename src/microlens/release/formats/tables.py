"""Reading the tables of other formats, and what is read of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import polars as pl

from microlens.errors import InputError
from microlens.release.columns import integers
from microlens.release.ids import ACCEPTED as IDS_ACCEPTED
from microlens.release.ids import TextIds, ids, is_text, why_no_id
from microlens.release.text_files import TextFile, lines_of
from microlens.release.timestamps import ACCEPTED as TIMES_ACCEPTED
from microlens.release.timestamps import TimestampFault, read_moments


class SideTables(TypedDict, total=False):
    """The tables beside the events, as in :class:`Tables`."""

    titles: pl.DataFrame | None
    tags: pl.DataFrame | None
    likes: pl.DataFrame | None
    comments: pl.DataFrame | None


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The tables of a dataset in any format.

    Args:
        name: name of the dataset.
        files: the files that were read.
        events: columns user and item (integers or text), if the times are known timestamp (milliseconds), and if the
            dataset came with a split, split (Int8: 0 train, 1 validation, 2 test). Without times, each user's rows are
            in order of time.
        titles: columns item and title, as text, and if they are known in several languages title_en and the like,
            as in a prepared dataset; None if there are none.
        tags: columns item and tag, as text; None if there are none.
        likes: columns item, as text, likes and views (Int64); None if there are none.
        comments: columns user, item and text, as text; None if there are none.
        features: files of frozen features whose row r belongs to the item with the id r.
        notes: choices made in reading the files.
    """

    name: str
    files: tuple[Path, ...]
    events: pl.DataFrame
    titles: pl.DataFrame | None = None
    tags: pl.DataFrame | None = None
    likes: pl.DataFrame | None = None
    comments: pl.DataFrame | None = None
    features: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def read_cells(
    text: TextFile, separator: str, names: Sequence[str], accepted: str, *, skip_lines: int = 0
) -> pl.DataFrame:
    """Read a table without quotes: the column ``line``, and the cells of each row as text.

    Args:
        text: file to read.
        separator: separator of cells.
        names: names of all columns.
        accepted: what is accepted, for messages.
        skip_lines: number of lines before the first row. Blank lines are left out.

    Raises:
        InputError: there is no row, or a row has a wrong number of cells.
    """
    content = _from_line(text.content, skip_lines)
    if len(separator) > 1:
        content, separator = content.replace(separator.encode(), b"\x1f"), "\x1f"
    cells = _all_filled(content, separator, names)
    if cells is not None:
        return cells.with_row_index("line", offset=skip_lines + 1)
    lines = lines_of(content, skip_lines + 1)
    if lines.is_empty():
        raise InputError(f"{text.path} holds no rows; expected {accepted}.")
    widths = lines.select(pl.col("text").str.count_matches(separator, literal=True) + 1).to_series()
    wrong = widths != len(names)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        found = f"{widths[row]:,} column{'s' if widths[row] != 1 else ''} instead of {len(names)}"
        raise InputError(f"{text.path}, line {lines['line'][row]}: {found}; expected {accepted}.")
    fields = pl.col("text").str.splitn(separator, len(names)).struct.rename_fields(list(names))
    return lines.select("line", fields.struct.unnest())


def _from_line(content: bytes, skipped: int) -> bytes:
    begin = 0
    for _ in range(skipped):
        begin = content.find(b"\n", begin) + 1 or len(content)
    return content[begin:] if begin else content


def _all_filled(content: bytes, separator: str, names: Sequence[str]) -> pl.DataFrame | None:
    """Fast path: the cells if every row has as many as there are names, and none is empty; else None."""
    try:
        cells = pl.read_csv(
            content,
            has_header=False,
            separator=separator,
            quote_char=None,
            schema=dict.fromkeys(names, pl.String),
            glob=False,
        )
    except pl.exceptions.PolarsError:
        return None
    return None if cells.is_empty() or cells.null_count().sum_horizontal().item() else cells


def read_events(
    text: TextFile, cells: pl.DataFrame, accepted: str, text_ids: TextIds | None = None
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Events as in :class:`Tables`, and notes.

    ``cells`` has the columns line, user, item and perhaps timestamp, as text, and perhaps split, as in the events.
    Which ids are text depends on the first one of the column, if ``text_ids`` does not say it.

    Raises:
        InputError: an id is of another type than the first, or a time is invalid.
    """
    kinds = text_ids or TextIds(**{name: is_text(cells[name][0]) for name in ("user", "item")})
    read = (_ids(text, cells, name, accepted, of_text=getattr(kinds, name)) for name in ("user", "item"))
    events = cells.select("line", *read, *(name for name in ("split",) if name in cells.columns))
    if "timestamp" not in cells.columns:
        return events.drop("line"), ()
    written = cells["timestamp"]
    whole = written.cast(pl.Int64, strict=False)
    try:
        moments = read_moments(written if whole.has_nulls() else whole)
    except TimestampFault as fault:
        raise InputError(f"{text.path}, line {cells['line'][fault.row]}: {fault}; expected {TIMES_ACCEPTED}.") from None
    events = events.drop("line").with_columns(moments.values)
    if moments.values.dtype == pl.Float64 or moments.unit in ("microseconds", "nanoseconds"):
        events = events.sort("timestamp", maintain_order=True)  # milliseconds may lose the order
    notes = (f"{text.path.name}: {moments.note}",) if moments.note else ()
    ordered = ("user", "item", "timestamp", *events.columns[2:-1])
    return events.with_columns(moments.milliseconds().alias("timestamp")).select(ordered), notes


def text_ids_of(events: pl.DataFrame) -> TextIds:
    """Which ids of ``events`` are text."""
    return TextIds(**{name: events.schema[name] == pl.String for name in ("user", "item")})


def _ids(text: TextFile, cells: pl.DataFrame, name: str, accepted: str, *, of_text: bool) -> pl.Series:
    written = cells[name]
    if not of_text:
        whole = written.cast(pl.Int64, strict=False)
        if not whole.has_nulls():
            return whole
    read = cells.select(ids(pl.col(name), text=of_text)).to_series()
    wrong = read.is_null()
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        why = why_no_id(written[row], text=of_text)
        raise InputError(f"{text.path}, line {cells['line'][row]}: {why}; expected {accepted}; {IDS_ACCEPTED}.")
    return read


def filled(table: pl.DataFrame, name: str) -> pl.DataFrame | None:
    """The columns item and ``name`` of the rows where both have a text, without surrounding blanks; None if none has.

    The first row of an item counts.
    """
    stripped = table.select(pl.col("item", name).str.strip_chars())
    kept = stripped.filter((pl.col("item") != "") & (pl.col(name) != "")).unique(
        "item", keep="first", maintain_order=True
    )
    return None if kept.is_empty() else kept


def counts(table: pl.DataFrame) -> pl.DataFrame | None:
    """The columns item, likes and views of the rows where a number is given; None if none is. The first row counts.

    ``table`` has the column item, as text, and perhaps likes and views, as integers or text.
    """
    names = [name for name in ("likes", "views") if name in table.columns]
    if not names:
        return None
    read = table.select(pl.col("item").str.strip_chars(), *(integers(pl.col(name).cast(pl.String)) for name in names))
    missing = [pl.lit(None, pl.Int64).alias(name) for name in ("likes", "views") if name not in names]
    kept = read.filter((pl.col("item") != "") & pl.any_horizontal(pl.col(names).is_not_null())).with_columns(missing)
    first = kept.select("item", "likes", "views").unique("item", keep="first", maintain_order=True)
    return None if first.is_empty() else first
