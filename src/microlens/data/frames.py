"""Data frames as a dataset source: interactions, items, and paths of media files."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from microlens.data.source import Origin, Source, Table
from microlens.errors import InputError
from microlens.release.events import Events
from microlens.release.folder import MEDIA
from microlens.release.frame_columns import (
    columns_of,
    count_column,
    id_column,
    ids_like,
    is_missing,
    text_column,
    time_column,
)
from microlens.release.frame_events import FrameEvents
from microlens.release.ids import Id, TextIds
from microlens.release.media_files import MediaFiles, find_media, name_of
from microlens.release.metadata import Metadata

_FRAME, _ITEMS = "the frame", "items"
_TEXTS, _COUNTS = ("title", "tag"), ("likes", "views")


class FrameSource(Source):
    """Source of data frames in memory; see :meth:`microlens.data.dataset.Dataset.from_frame` for the arguments.

    Args:
        name: name of the dataset.
        frame: interactions.
        columns: names of the columns of users, items and times; the last may be None.
        items: frame with one row per item, or None.
        item_id: name of the id column in ``items``.
        media: location of the files of each kind: None, a folder, a column of ``items``, or a mapping.

    Raises:
        InputError: a column is missing or has an invalid value, or media files do not exist.
    """

    def __init__(
        self,
        name: str,
        frame: Any,
        columns: tuple[str, str, str | None],
        items: Any,
        item_id: str,
        media: Mapping[str, Any],
    ) -> None:
        self._name = name
        user, item, time = columns
        table = columns_of(frame, [user, item, *([] if time is None else [time])], _FRAME)
        if table.is_empty():
            raise InputError(f"{_FRAME} holds no interactions.")
        named = ((user, "user"), (item, "item"))
        self._events = pl.DataFrame([id_column(table[column], _FRAME).alias(name) for column, name in named])
        self._moments = None if time is None else time_column(table[time], _FRAME)
        self._text_items = self._events.schema["item"] == pl.String
        self._items = None if items is None else self._read_items(items, item_id, media)
        self._media = {kind: self._find(MEDIA[kind][0], kind, where) for kind, where in media.items()}

    def _read_items(self, items: Any, item_id: str, media: Mapping[str, Any]) -> Table:
        """Read the known columns of ``items``; of several rows of an item, the first is kept."""
        columns = [where for where in media.values() if isinstance(where, str)]
        frame = columns_of(items, [item_id], _ITEMS, [*_TEXTS, *_COUNTS, *columns])
        self._paths = frame.select(name for name in columns if name in frame.columns)
        read, emptied = [ids_like(frame[item_id], _ITEMS, text=self._text_items).alias("item_id")], 0
        for name in (name for name in (*_TEXTS, *_COUNTS) if name in frame.columns):
            column, wrong = (text_column if name in _TEXTS else count_column)(frame[name], _ITEMS)
            read.append(column)
            emptied += wrong
        self._listed = pl.DataFrame(read)
        table = self._listed.unique("item_id", keep="first", maintain_order=True)
        metadata = Metadata(table=table, unreadable=len(frame) - len(table), emptied=emptied)
        return Table(name=_ITEMS, metadata=metadata, rows="rows")

    def _find(self, name: str, kind: str, where: Any) -> MediaFiles:
        """Find the files of one kind; in messages and the manifest, paths start with ``name`` or the folder's name."""
        if where is None:
            return MediaFiles(by_item={}, names={}, unused={})
        if self._items is not None and isinstance(where, str) and where in self._paths.columns:
            return _of_paths(name, zip(self._listed["item_id"].to_list(), self._paths[where].to_list(), strict=True))
        if hasattr(where, "items"):
            ids = pl.Series(name, list(where.keys()), strict=False) if len(where) else pl.Series(name, [], pl.String)
            read = ids_like(ids, name, text=self._text_items).to_list()
            return _of_paths(name, zip(read, (path for _, path in where.items()), strict=True))
        if not isinstance(where, (str, os.PathLike)) or not Path(where).is_dir():
            raise InputError(
                f"{name} is {str(where)!r}; accepted are a folder, a column of items, and a mapping of item ids to "
                "paths."
            )
        return find_media([Path(where).resolve()], MEDIA[kind][1], text_ids=self._text_items)

    @property
    def name(self) -> str:
        """The name of the dataset."""
        return self._name

    @cached_property
    def origins(self) -> list[Origin]:
        """The frames, and the assignment of media files to items."""
        columns = self._events.get_columns()
        if self._moments is not None:
            columns.append(self._moments.values.alias(str(self._moments.unit)))
        tables = {"interactions": columns}
        if self._items is not None:
            tables["items"] = self._listed.get_columns()
        origins = [_origin(name, columns) for name, columns in tables.items()]
        return origins + [_origin_of_media(MEDIA[kind][0], files) for kind, files in self._media.items() if files.names]

    def events(self) -> Events:
        """The interactions."""
        note = None if self._moments is None else self._moments.note
        return FrameEvents(self._events, self._moments, [note] if note else [])

    def read_items(self, text_ids: TextIds) -> list[Table]:
        """The table of items, if a frame of items was given."""
        return [] if self._items is None else [self._items]

    def media(self, *, text_ids: bool) -> dict[str, MediaFiles]:
        """The media files by kind."""
        return self._media


def _of_paths(name: str, paths: Iterable[tuple[Id, Any]]) -> MediaFiles:
    """Files given by item, the first if an item has several; named relative to their common folder."""
    by_item: dict[Id, Path] = {}
    for item, path in paths:
        if is_missing(path) or path == "":
            continue
        if not isinstance(path, (str, os.PathLike)):
            raise InputError(f"{name} of item {item} is {path!r}; accepted are paths of files.")
        by_item.setdefault(item, Path(path))
    if by_item and not any(path.exists() for path in by_item.values()):
        first = next(iter(by_item.values()))
        raise InputError(f"none of the {len(by_item):,} files given as {name} exists (the first is {first}).")
    # Unlike resolve(), abspath() keeps the names of links.
    whole = {item: Path(os.path.abspath(path)) for item, path in sorted(by_item.items())}  # noqa: PTH100
    above = Path(os.path.commonpath([path.parent for path in whole.values()])) if whole else Path()
    names = {item: f"{name}/{name_of(path.relative_to(above))}" for item, path in whole.items()}
    return MediaFiles(by_item=whole, names=names, unused={})


def _origin(name: str, columns: Iterable[pl.Series]) -> Origin:
    """A digest of the names, types and values of columns."""
    digest, size = hashlib.sha256(), 0
    for column in columns:
        if not column.dtype.is_integer():
            column = column.cast(pl.String)
            lengths = column.str.len_bytes().cast(pl.Int64).fill_null(-1)
            parts = [lengths.to_numpy().tobytes(), column.fill_null("").str.join("").item().encode()]
        else:
            parts = [column.is_null().to_numpy().tobytes(), column.fill_null(0).to_numpy().tobytes()]
        digest.update(json.dumps([column.name, str(column.dtype), len(column)]).encode())
        for part in parts:
            digest.update(part)
            size += len(part)
    return Origin(path=name, bytes=size, sha256=digest.hexdigest())


def _origin_of_media(name: str, files: MediaFiles) -> Origin:
    """A digest of the assignment of files to items."""
    content = json.dumps(sorted([str(item), path] for item, path in files.names.items())).encode()
    return Origin(path=name, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
