"""A text table with one line per user, which lists all items in order of time."""

import re
from collections.abc import Iterator

import polars as pl

from microlens.errors import InputError
from microlens.release.columns import ITEM, USER, columns_by_name
from microlens.release.events import Events
from microlens.release.formats import hint_for
from microlens.release.ids import ACCEPTED as IDS_ACCEPTED
from microlens.release.ids import TextIds, ids, is_text, notes_of_ids, why_no_id
from microlens.release.text_blocks import TextBlocks
from microlens.release.text_files import TextFile, lines_of, shown

ACCEPTED = f"a user, a tab, and the user's items separated by single spaces; {IDS_ACCEPTED}"
_INTEGER = r"^-?[0-9]+$"
_ITEMS = (*ITEM, "items", "itemids", "videos", "videoids", "history", "sequence")


class SequenceEvents(Events):
    """The events of a text table of sequences; users and items are integers or text, depending on the first event.

    Args:
        blocks: the table.
        text: its path, and its first line that is not blank, for messages.
        first: number of that line.

    Raises:
        InputError: the first line of a user is invalid.
    """

    def __init__(self, blocks: TextBlocks, text: TextFile, first: int) -> None:
        self._blocks, self._text, self._first = blocks, text, first
        self._has_header = columns_by_name(text.content.decode(), {"user": USER, "item": _ITEMS}) is not None
        self._num_lines = 0
        for lines in self._lines():
            (self._line, user, items) = self._cells(lines.head(1)).row(0)
            break
        else:
            raise InputError(f"{text.path} holds no interactions; expected {ACCEPTED}.")
        self._first_ids, self._is_alone = (user, items[0]), len(items) == 1
        self.text_ids = TextIds(user=is_text(user), item=is_text(items[0]))

    def batches(self) -> Iterator[pl.DataFrame]:
        """Read the events, a batch per block."""
        others_are_integers, has_others = True, False
        for lines in self._lines():
            written = self._cells(lines)
            self._num_lines += len(written)
            frame = self._with_ids(written)
            others = frame.filter(pl.col("line") != self._line)
            if self.text_ids == TextIds(user=True, item=True) and others_are_integers and len(others):
                has_others = True
                others_are_integers = all(others.select(pl.col("user", "item").str.contains(_INTEGER).all()).row(0))
            yield frame.select("user", "item")
        if has_others and others_are_integers:
            self._check_first_line()

    @property
    def progress(self) -> tuple[int, int]:
        """MB of text that were read, and of the whole table."""
        return self._blocks.progress

    def notes(self, num_users: int) -> list[str]:
        """The encoding, users with several lines, and which ids are text."""
        name, repeated = self._text.path.name, self._num_lines - num_users
        several = [f"{name}: lines of a user who had one before, appended to it: {repeated:,}"] if repeated else []
        return [*self._blocks.notes, *several, *notes_of_ids(name, self.text_ids, self._first_ids)]

    def _lines(self) -> Iterator[pl.DataFrame]:
        """Yield the lines of every block: columns line and text."""
        for number, content in self._blocks:
            lines = lines_of(content, number)
            if self._has_header:
                lines = lines.filter(pl.col("line") != self._first)
            if len(lines):
                yield lines

    def _cells(self, lines: pl.DataFrame) -> pl.DataFrame:
        """Split lines into columns line, user and item (a list), all text."""
        cells = pl.col("text").str.count_matches("\t", literal=True) + 1
        wrong = lines.select("line", cells.alias("found")).filter(pl.col("found") != 2).head(1)
        for line, found in wrong.iter_rows():
            columns = f"{found:,} column{'s' if found != 1 else ''} instead of 2"
            raise InputError(f"{self._text.path}, line {line}: {columns}; expected {ACCEPTED}{hint_for(self._text)}.")
        user, items = (pl.col("text").str.splitn("\t", 2).struct.field(f"field_{index}") for index in (0, 1))
        return lines.select("line", user.alias("user"), items.str.strip_chars().str.split(" ").alias("item"))

    def _with_ids(self, written: pl.DataFrame) -> pl.DataFrame:
        """Parse ids, one row per event."""
        kinds = self.text_ids
        # Text ids are kept as they are here and checked after each has its own row.
        items = pl.col("item") if kinds.item else pl.col("item").cast(pl.List(pl.Int64), strict=False)
        frame = written.with_columns(ids(pl.col("user"), text=kinds.user), items).explode("item")
        if kinds.item:
            frame = frame.with_columns(ids(pl.col("item"), text=True))
        if frame["user"].has_nulls() or frame["item"].has_nulls():
            raise self._first_wrong_value(written, frame)
        return frame

    def _first_wrong_value(self, written: pl.DataFrame, read: pl.DataFrame) -> InputError:
        row = int((read["user"].is_null() | read["item"].is_null()).arg_max() or 0)
        line, user, item = written.explode("item").row(row)
        wrong, of_text = (user, self.text_ids.user) if read["user"][row] is None else (item, self.text_ids.item)
        return InputError(f"{self._text.path}, line {line}: {why_no_id(wrong, text=of_text)}; expected {ACCEPTED}.")

    def _check_first_line(self) -> None:
        """Reject a first line of two names above lines of integers, which is a header with unknown names."""
        user, item = (id_.strip() for id_ in self._first_ids)
        if self._is_alone and not re.search(r"[0-9]", user + item):
            names = shown(f"{user} {item}")
            raise InputError(f"{self._text.path}, line {self._line}: the columns are '{names}'; expected {ACCEPTED}.")
