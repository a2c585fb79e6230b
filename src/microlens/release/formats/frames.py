"""Datasets whose tables have typed columns: interactions, items and comments."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from microlens.errors import InputError
from microlens.release.columns import COMMENT, ITEM, LIKES, TAG, TIME, TITLE, USER, VIEWS
from microlens.release.formats.tables import SideTables, Tables, counts, filled
from microlens.release.frame_columns import count_column, id_column, ids_like, text_column, time_column
from microlens.release.given_split import SPLIT, part_numbers

ACCEPTED = "columns for users and items, and perhaps times and a split, such as user, item, timestamp, split"
_ITEM_KEY = ("itemid", *ITEM)  # items.parquet of a dataset has both the id and a number


def tables_of_frames(name: str, files: Sequence[Path], frames: Mapping[str, pl.DataFrame]) -> Tables:
    """The tables of a dataset, found by the names of their columns.

    Args:
        name: name of the dataset.
        files: the files that were read.
        frames: the frame "interactions" and perhaps "items" and "comments".

    Raises:
        InputError: a column is missing or has an invalid value.
    """
    events = _events(frames["interactions"])
    beside = _items(frames["items"], events) if "items" in frames else SideTables()
    if "comments" in frames:
        beside["comments"] = _comments(frames["comments"], events)
    return Tables(name=name, files=tuple(files), events=events, **beside)


def _events(frame: pl.DataFrame) -> pl.DataFrame:
    if frame.is_empty():
        raise InputError(f"interactions has no rows; expected {ACCEPTED}.")
    user, item = _required(frame, "interactions", USER), _required(frame, "interactions", ITEM)
    columns = [
        id_column(frame[column], "interactions").alias(name) for name, column in (("user", user), ("item", item))
    ]
    time, split = _found(frame, TIME), _found(frame, SPLIT)
    if time is not None:
        moments = time_column(frame[time], "interactions")
        columns.append(moments.values.to_frame().select(moments.milliseconds().alias("timestamp")).to_series())
    if split is not None:
        columns.append(_labels(frame, split))
    return pl.DataFrame(columns)


def _labels(frame: pl.DataFrame, column: str) -> pl.Series:
    labels = frame.select(part_numbers(column)).to_series().alias("split")
    if labels.has_nulls():
        row = int(labels.is_null().arg_max() or 0)
        raise InputError(
            f"row {row} of interactions: '{frame[column][row]}' of column '{column}' is no part; expected train, valid "
            "or test, or 0, 1 or 2."
        )
    return labels


def _items(frame: pl.DataFrame, events: pl.DataFrame) -> SideTables:
    keys = _keys(frame, "items", _ITEM_KEY, events, "item")
    numbers = [
        count_column(frame[column], "items")[0].alias(name)
        for name, names in (("likes", LIKES), ("views", VIEWS))
        if (column := _found(frame, names)) is not None
    ]
    return SideTables(
        titles=_texts(frame, keys, "title", TITLE),
        tags=_texts(frame, keys, "tag", TAG),
        likes=counts(pl.DataFrame([keys, *numbers])),
    )


def _texts(frame: pl.DataFrame, keys: pl.Series, name: str, names: Sequence[str]) -> pl.DataFrame | None:
    column = _found(frame, names)
    if column is None:
        return None
    return filled(pl.DataFrame([keys, text_column(frame[column], "items")[0].alias(name)]), name)


def _comments(frame: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame | None:
    users = _keys(frame, "comments", USER, events, "user")
    items = _keys(frame, "comments", ITEM, events, "item")
    text = text_column(frame[_required(frame, "comments", COMMENT)], "comments")[0].alias("text")
    kept = pl.DataFrame([users, items, text]).filter(pl.col("text") != "")
    return None if kept.is_empty() else kept


def _keys(frame: pl.DataFrame, table: str, names: Sequence[str], events: pl.DataFrame, name: str) -> pl.Series:
    """The column of ids called one of ``names``, of the type of ``events``, as text."""
    column = frame[_required(frame, table, names)]
    return ids_like(column, table, text=events.schema[name] == pl.String).cast(pl.String).alias(name)


def _required(frame: pl.DataFrame, table: str, names: Sequence[str]) -> str:
    found = _found(frame, names)
    if found is None:
        raise InputError(f"{table} has no column called {names[0]}; its columns are {', '.join(frame.columns)}.")
    return found


def _found(frame: pl.DataFrame, names: Sequence[str]) -> str | None:
    """The column with the first of ``names``, written in any way."""
    plain = {re.sub(r"[\W_]", "", column.lower()): column for column in reversed(frame.columns)}
    return next((plain[name] for name in names if name in plain), None)
