"""Reading the interactions of a release: ``*pairs.csv`` and ``*pairs.tsv``."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from microlens.errors import InputError
from microlens.release.columns import ITEM, TIME, USER, columns_by_name
from microlens.release.event_table import ACCEPTED as TABLE_ACCEPTED
from microlens.release.event_table import COLUMNS, find_columns, read_event_table
from microlens.release.formats import hint_for
from microlens.release.ids import ACCEPTED as IDS_ACCEPTED
from microlens.release.ids import TextIds, ids, is_text, numbered, why_no_id
from microlens.release.text_files import TextFile, first_line, lines_of, read_text, shown
from microlens.release.timestamps import ACCEPTED as TIMES_ACCEPTED
from microlens.release.timestamps import Moments, TimestampFault, read_moments

_SEQUENCES_ACCEPTED = f"a user, a tab, and the user's items separated by single spaces; {IDS_ACCEPTED}"
_SUFFIX_OF_SEQUENCES = ".tsv"
_COLUMN_NUMBERS = (0, 1, 2)  # the header that pandas writes for unnamed columns
_ITEMS = (*ITEM, "items", "itemids", "videos", "videoids", "history", "sequence")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The events of a release, sorted by user, then time, then position in the file.

    ``events`` has the integer columns user, item and timestamp (milliseconds; the position in the user's sequence for a
    file of sequences). If user ids are text, the column user numbers them from 1, and ``user_ids`` (U,) holds the ids
    in this order, ascending; if they are integers, it is None. Items likewise. ``repeated`` counts later repeats of a
    (user, item) pair, which were dropped; ``out_of_order`` counts events listed in the file before an earlier event of
    the same user; ``notes`` describes choices made in reading the file.
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


def read_pairs(path: Path) -> Pairs:
    """Read a pairs file: a table with one line per event, or one line per user with items in order of time.

    Raises:
        InputError: the file is empty or not text, or a line has the wrong number of columns, an id of another type than
            the first, or a timestamp that is invalid or has another format than the others.
    """
    text = read_text(path)
    found = first_line(text.content)
    if found is None:
        raise InputError(f"{text.path} is empty; expected {_accepted(text.path)}.")
    begin, first, line = found
    if _is_sequence(path, line):
        return _read_sequences(text)
    columns = find_columns(text, first, line)
    frame = read_event_table(text, begin, first, columns)
    if frame.is_empty():
        raise InputError(f"{path} holds no interactions; expected {_accepted(path)}.")
    try:
        moments = read_moments(frame["timestamp"])
    except TimestampFault as fault:
        raise InputError(f"{path}, line {frame['line'][fault.row]}: {fault}; expected {TIMES_ACCEPTED}.") from None
    if moments.unit and not columns.header and frame.row(0)[1:] == _COLUMN_NUMBERS:
        raise InputError(f"{path}, line {first}: '{line}' are column numbers; remove the line.")
    notes = [*text.notes, *columns.note(path.name), *([f"{path.name}: {moments.note}"] if moments.note else [])]
    return pairs_at(frame, moments, notes + _notes_of_ids(path, frame))


def _notes_of_ids(path: Path, frame: pl.DataFrame) -> list[str]:
    """What to tell of ids that are text, because one odd first id makes text of all."""
    return [
        f"{path.name}: {name} ids are text, as the first of them, '{shown(frame[name][0], 20)}'"
        for name in ("user", "item")
        if frame.schema[name] == pl.String
    ]


def pairs_at(frame: pl.DataFrame, moments: Moments, notes: Iterable[str] = ()) -> Pairs:
    """The events of ``frame``, columns user and item (integers or text), at ``moments``."""
    moments = replace(moments, values=moments.values.alias("timestamp"))
    pairs = _in_time_order(frame.with_columns(moments.values))
    events = pairs.events.with_columns(moments.milliseconds().alias("timestamp"))
    return replace(pairs, events=events, notes=tuple(notes))


def pairs_in_order(frame: pl.DataFrame, notes: Iterable[str] = ()) -> Pairs:
    """Build pairs from ``frame``, with columns user and item (integers or text), each user's rows in order of time."""
    # Make the rows of a user contiguous, to number them.
    frame = frame.sort("user", maintain_order=True)
    begins = (pl.col("user") != pl.col("user").shift()).fill_null(value=True)
    index = pl.int_range(pl.len())
    frame = frame.with_columns((index - pl.when(begins).then(index).forward_fill()).alias("timestamp"))
    return replace(_in_time_order(frame), notes=tuple(notes))


def _accepted(path: Path) -> str:
    return _SEQUENCES_ACCEPTED if _suffix(path) == _SUFFIX_OF_SEQUENCES else TABLE_ACCEPTED


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _is_sequence(path: Path, line: str) -> bool:
    """True if each line is a user with all items, and not one event, decided by the first line."""
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
        raise InputError(f"{text.path}, line {line}: {columns}; expected {_SEQUENCES_ACCEPTED}{hint_for(text)}.")
    if lines.is_empty():
        raise InputError(f"{text.path} holds no interactions; expected {_SEQUENCES_ACCEPTED}.")
    user, items = (pl.col("text").str.splitn("\t", 2).struct.field(f"field_{index}") for index in (0, 1))
    written = lines.select("line", user.alias("user"), items.str.strip_chars().str.split(" ").alias("item"))
    first = written.head(1).explode("item")
    kinds = TextIds(user=is_text(first["user"][0]), item=is_text(first["item"][0]))
    # Text ids are kept as they are here and checked after each has its own row.
    items = pl.col("item") if kinds.item else pl.col("item").cast(pl.List(pl.Int64), strict=False)
    rows = written.with_columns(ids(pl.col("user"), text=kinds.user), items)
    frame = rows.explode("item")
    if kinds.item:
        frame = frame.with_columns(ids(pl.col("item"), text=True))
    if frame["user"].has_nulls() or frame["item"].has_nulls():
        raise _first_wrong_value(text, written, frame, kinds)
    if kinds.user and kinds.item:
        _check_no_header(text, frame)
    repeated_users = len(rows) - rows["user"].n_unique()
    notes = [*text.notes]
    if repeated_users:
        notes.append(f"{text.path.name}: lines of a user who had one before, appended to it: {repeated_users:,}")
    return pairs_in_order(frame, notes + _notes_of_ids(text.path, frame))


def _first_wrong_value(text: TextFile, written: pl.DataFrame, read: pl.DataFrame, kinds: TextIds) -> InputError:
    row = int((read["user"].is_null() | read["item"].is_null()).arg_max() or 0)
    line, user, item = written.explode("item").row(row)
    wrong, of_text = (user, kinds.user) if read["user"][row] is None else (item, kinds.item)
    return InputError(f"{text.path}, line {line}: {why_no_id(wrong, text=of_text)}; expected {_SEQUENCES_ACCEPTED}.")


def _check_no_header(text: TextFile, frame: pl.DataFrame) -> None:
    """Reject a first line of two names above lines of integers, which is a header with unknown names."""
    line, user, item = frame.row(0)
    others = frame[1:].select(pl.col("user", "item").str.contains(r"^-?[0-9]+$").all()).row(0)
    if len(frame) > 1 and all(others) and frame["line"][1] != line and not re.search(r"[0-9]", user + item):
        names = shown(f"{user} {item}")
        raise InputError(f"{text.path}, line {line}: the columns are '{names}'; expected {_SEQUENCES_ACCEPTED}.")


def _in_time_order(frame: pl.DataFrame) -> Pairs:
    (users, user_ids), (items, item_ids) = numbered(frame["user"]), numbered(frame["item"])
    frame = frame.with_columns(users, items)
    # Comparison instead of subtraction, which could overflow 64 bits.
    by_user = frame.select(COLUMNS).sort("user", maintain_order=True)
    same_user = pl.col("user") == pl.col("user").shift()
    backwards = same_user & (pl.col("timestamp") < pl.col("timestamp").shift())
    out_of_order = int(by_user.select(backwards.sum()).item())
    ordered = by_user.sort("user", "timestamp", maintain_order=True) if out_of_order else by_user
    events = ordered.unique(["user", "item"], keep="first", maintain_order=True)
    return Pairs(
        events=events,
        repeated=len(ordered) - len(events),
        out_of_order=out_of_order,
        user_ids=user_ids,
        item_ids=item_ids,
    )
