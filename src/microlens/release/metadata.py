"""Reading the item metadata of a release: titles, tags, likes and views, comments.

In practice these files are malformed (unbalanced quotes, commas inside titles, missing headers, values over several
lines), so every reader keeps well-formed rows and counts the others. A table with many unusable rows is rejected,
because it was probably misinterpreted.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from microlens.errors import InputError
from microlens.release.columns import COMMENT, ITEM, LIKES, TAG, TITLE, USER, VIEWS, why_no_integer
from microlens.release.ids import TextIds, ids, why_no_id
from microlens.release.item_table import Form, read_rows
from microlens.release.text_files import TextFile, read_text

_INTEGERS = TextIds()
_MOST_UNUSABLE = 0.1  # of the rows
_LOST = "\ufffd"

_TITLES = Form(columns={"item_id": ITEM, "title": TITLE}, keys=("item_id",), text="title")
_TAGS = Form(columns={"item_id": ITEM, "tag": TAG}, keys=("item_id",), text="tag")
_LIKES = Form(columns={"item_id": ITEM, "likes": LIKES, "views": VIEWS}, keys=("item_id",))
_COMMENTS = Form(columns={"user_id": USER, "item_id": ITEM, "text": COMMENT}, keys=("user_id", "item_id"), text="text")


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """One metadata file as a table keyed by ``item_id`` (or user and item).

    ``unreadable`` counts rows dropped because they could not be read or repeat an item; ``emptied`` counts numbers that
    could not be read and became null; ``notes`` describes choices made in reading the file.
    """

    table: pl.DataFrame
    unreadable: int
    emptied: int = 0
    notes: tuple[str, ...] = ()


def read_titles(path: Path, text_ids: TextIds = _INTEGERS) -> Metadata:
    """Read a table of items and titles into columns item_id and title.

    Titles may be quoted, contain unquoted commas, and span several lines if quoted.

    Args:
        path: file to read.
        text_ids: which ids are text.

    Raises:
        InputError: the file is not text, its columns are not found, or more than a tenth of its rows cannot be used.
    """
    return _read(path, _TITLES, text_ids)


def read_tags(path: Path, text_ids: TextIds = _INTEGERS) -> Metadata:
    """Read a table of items and tags into columns item_id and tag; otherwise as :func:`read_titles`."""
    return _read(path, _TAGS, text_ids)


def read_likes(path: Path, text_ids: TextIds = _INTEGERS) -> Metadata:
    """Read a table of items, likes and views into columns item_id, likes and views; else as :func:`read_titles`."""
    return _read(path, _LIKES, text_ids)


def read_comments(path: Path, text_ids: TextIds = _INTEGERS) -> Metadata:
    """Read a table of comments into columns user_id, item_id and text; otherwise as :func:`read_titles`."""
    return _read(path, _COMMENTS, text_ids)


def _read(path: Path, form: Form, text_ids: TextIds) -> Metadata:
    text = read_text(path)
    of_text = {"user_id": text_ids.user, "item_id": text_ids.item}
    form = replace(form, text_keys=frozenset(key for key in form.keys if of_text[key]))
    rows = read_rows(text, form)
    written, faults = rows.table, list(rows.faults)
    notes = [*text.notes, *rows.notes]
    lost = pl.any_horizontal(pl.col(*form.columns).str.contains(_LOST, literal=True).fill_null(value=False))
    with_losses = written.filter(lost)["line"].to_list()
    if text.damaged:
        faults += [(line, "bytes that are no UTF-8") for line in with_losses]
        written = written.filter(~lost)
    elif with_losses:
        notes.append(f"{path.name}: rows with U+FFFD, which an earlier conversion left: {len(with_losses):,}")
    numbers = [name for name in form.columns if name != form.text]
    read = written.with_columns(ids(pl.col(name), text=name in form.text_keys) for name in numbers)
    for name in form.keys:
        wrong = written.filter(read[name].is_null()).select("line", name)
        faults += [(line, why_no_id(value, text=name in form.text_keys)) for line, value in wrong.iter_rows()]
        written, read = written.filter(read[name].is_not_null()), read.filter(pl.col(name).is_not_null())
    emptied = _emptied(written, read, [name for name in numbers if name not in form.keys])
    return _checked(text, form, read, faults, emptied, notes)


def _emptied(written: pl.DataFrame, read: pl.DataFrame, names: list[str]) -> list[tuple[int, str]]:
    """Line and reason of non-empty values that are not integers."""
    return [
        (line, why_no_integer(value))
        for name in names
        for line, value in written.filter(read[name].is_null() & (written[name] != "")).select("line", name).iter_rows()
    ]


def _checked(
    text: TextFile,
    form: Form,
    read: pl.DataFrame,
    faults: list[tuple[int, str]],
    emptied: list[tuple[int, str]],
    notes: list[str],
) -> Metadata:
    """Drop repeats of an item and reject a table with too many unusable rows; exact duplicates are not counted."""
    total = len(read) + len(faults)
    table = read
    if form.keys == ("item_id",):
        distinct = read.unique(list(form.columns), keep="first", maintain_order=True)
        repeats = distinct.filter(~pl.col("item_id").is_first_distinct())
        table = distinct.unique("item_id", keep="first", maintain_order=True)
    else:
        repeats = read.clear()
    unusable = sorted([*faults, *emptied, *((line, "a repeated item") for line in repeats["line"])])
    if len(unusable) > _MOST_UNUSABLE * total:
        line, why = unusable[0]
        raise InputError(
            f"{text.path}: {len(unusable):,} of {total:,} rows cannot be used, the first in line {line} ({why}); "
            f"expected {form.accepted}."
        )
    return Metadata(
        table=table.select(list(form.columns)),
        unreadable=total - len(table),
        emptied=len(emptied),
        notes=tuple(notes),
    )
