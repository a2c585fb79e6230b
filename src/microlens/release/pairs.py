"""Reading the interactions of a release: ``*pairs.csv`` and ``*pairs.tsv``."""

import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from microlens.errors import InputError
from microlens.release.columns import ITEM, TIME, USER, columns_by_name, integers, why_no_integer
from microlens.release.event_table import ACCEPTED as TABLE_ACCEPTED
from microlens.release.event_table import COLUMNS, find_columns, read_event_table
from microlens.release.text_files import TextFile, lines_of, read_text
from microlens.release.timestamps import ACCEPTED as TIMES_ACCEPTED
from microlens.release.timestamps import TimestampFault, read_moments

_SEQUENCES_ACCEPTED = "a user, a tab, and the user's items separated by single spaces, all 64-bit integers"
_SUFFIX_OF_SEQUENCES = ".tsv"
_COLUMN_NUMBERS = (0, 1, 2)  # a header that pandas writes for columns without names
_LONGEST_HEADER = 1 << 16  # bytes; of a longer line the beginning says enough
_ITEMS = (*ITEM, "items", "itemids", "videos", "videoids", "history", "sequence")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Events as they lie in a release, sorted by user, then time, then position in the file.

    ``events`` has the integer columns user, item and timestamp (milliseconds; the position in the user's sequence for a
    file of sequences). ``repeated`` counts the later repeats of a (user, item) pair, which were dropped;
    ``out_of_order`` counts the events that stood before an earlier one of the same user in the file; ``notes`` says how
    the file was read, where there was a choice.
    """

    events: pl.DataFrame
    repeated: int
    out_of_order: int
    notes: tuple[str, ...] = ()


def read_pairs(path: Path) -> Pairs:
    """Read a pairs file: a table with a line an event, or a line a user in time order.

    Raises:
        InputError: the file is empty or no text, or a line has the wrong number of columns, an id that is no 64-bit
            integer, or a timestamp that is none or of another format than the others.
    """
    text = read_text(path)
    begin, first, line = _first_line(text)
    if _is_sequence(path, line):
        return _read_sequences(text)
    columns = find_columns(text, first, line)
    frame = read_event_table(text, begin, first, columns)
    if frame.is_empty():
        raise InputError(f"{path} holds no interactions; expected {_accepted(path)}.")
    try:
        moments = read_moments(frame["timestamp"])
    except TimestampFault as fault:
        raise InputError(f"{path}, line {frame['line'][fault.row]}: {fault}; expected are {TIMES_ACCEPTED}.") from None
    if moments.unit and not columns.header and frame.row(0)[1:] == _COLUMN_NUMBERS:
        raise InputError(f"{path}, line {first}: '{line}' are the numbers of columns; take the line out.")
    pairs = _in_time_order(frame.with_columns(moments.values.alias("timestamp")))
    notes = [*text.notes, *columns.note(path.name), *([f"{path.name}: {moments.note}"] if moments.note else [])]
    return Pairs(
        events=pairs.events.with_columns(moments.milliseconds().alias("timestamp")),
        repeated=pairs.repeated,
        out_of_order=pairs.out_of_order,
        notes=tuple(notes),
    )


def _first_line(text: TextFile) -> tuple[int, int, str]:
    """Process, number and (the beginning of the) text of the first line that is not blank."""
    start = re.search(rb"\S", text.content)
    if start is None:
        raise InputError(f"{text.path} is empty; expected {_accepted(text.path)}.")
    begin = text.content.rfind(b"\n", 0, start.start()) + 1
    line = text.content[begin : begin + _LONGEST_HEADER].partition(b"\n")[0]
    return begin, text.content.count(b"\n", 0, begin) + 1, line.decode(errors="ignore")


def _accepted(path: Path) -> str:
    return _SEQUENCES_ACCEPTED if _suffix(path) == _SUFFIX_OF_SEQUENCES else TABLE_ACCEPTED


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _is_sequence(path: Path, line: str) -> bool:
    """Whether the first line says that each line is a user with all items, and not one event."""
    if columns_by_name(line, {"user": USER, "item": ITEM, "timestamp": TIME}) is not None:
        return False
    return _suffix(path) == _SUFFIX_OF_SEQUENCES or (line.count("\t") == 1 and "," not in line and ";" not in line)


def _read_sequences(text: TextFile) -> Pairs:
    lines = lines_of(text.content)
    if columns_by_name(lines["text"][0], {"user": USER, "item": _ITEMS}) is not None:
        lines = lines[1:]
    cells = pl.col("text").str.count_matches("\t", literal=True) + 1
    wrong = lines.select("line", cells.alias("found")).filter(pl.col("found") != 2).head(1)
    for line, found in wrong.iter_rows():
        columns = f"{found:,} column{'s' if found != 1 else ''} instead of 2"
        raise InputError(f"{text.path}, line {line}: {columns}; expected {_SEQUENCES_ACCEPTED}.")
    user, items = (pl.col("text").str.splitn("\t", 2).struct.field(f"field_{index}") for index in (0, 1))
    items = items.str.strip_chars().str.split(" ")
    rows = lines.select("line", integers(user).alias("user"), items.cast(pl.List(pl.Int64), strict=False).alias("item"))
    frame = rows.explode("item")
    if frame["user"].has_nulls() or frame["item"].has_nulls():
        raise _first_wrong_value(text, lines.select("line", user.alias("user"), items.alias("item")), frame)
    if frame.is_empty():
        raise InputError(f"{text.path} holds no interactions; expected {_SEQUENCES_ACCEPTED}.")
    # A user's lines follow one another, so that positions count on from line to line.
    frame = frame.sort("user", maintain_order=True)
    begins = (pl.col("user") != pl.col("user").shift()).fill_null(value=True)
    index = pl.int_range(pl.len())
    frame = frame.with_columns((index - pl.when(begins).then(index).forward_fill()).alias("timestamp"))
    repeated_users = len(rows) - rows["user"].n_unique()
    notes = [*text.notes]
    if repeated_users:
        notes.append(f"{text.path.name}: lines of a user who had one before, appended to it: {repeated_users:,}")
    pairs = _in_time_order(frame)
    return Pairs(events=pairs.events, repeated=pairs.repeated, out_of_order=0, notes=tuple(notes))


def _first_wrong_value(text: TextFile, written: pl.DataFrame, read: pl.DataFrame) -> InputError:
    row = int((read["user"].is_null() | read["item"].is_null()).arg_max() or 0)
    line, user, item = written.explode("item").row(row)
    wrong = user if read["user"][row] is None else item
    return InputError(f"{text.path}, line {line}: {why_no_integer(wrong)}; expected {_SEQUENCES_ACCEPTED}.")


def _in_time_order(frame: pl.DataFrame) -> Pairs:
    # Compared and not subtracted: a difference of 64-bit integers may have 65 bits.
    by_user = frame.select(COLUMNS).sort("user", maintain_order=True)
    same_user = pl.col("user") == pl.col("user").shift()
    backwards = same_user & (pl.col("timestamp") < pl.col("timestamp").shift())
    out_of_order = int(by_user.select(backwards.sum()).item())
    ordered = by_user.sort("user", "timestamp", maintain_order=True) if out_of_order else by_user
    events = ordered.unique(["user", "item"], keep="first", maintain_order=True)
    return Pairs(events=events, repeated=len(ordered) - len(events), out_of_order=out_of_order)
