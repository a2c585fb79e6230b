"""A prepared dataset folder, opened for reading."""

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from microlens.data.events import scan_events
from microlens.data.interactions import ARRAYS, Int64, Interactions, ItemIds
from microlens.data.manifest import PREPARE_AGAIN, read_manifest
from microlens.data.protocol import Protocol
from microlens.data.split import Split, make_split
from microlens.data.stored_split import FEWEST_EVENTS, stored_split
from microlens.errors import InputError
from microlens.media.decoding import Settings
from microlens.release.ids import Id, positions_of

_KINDS = ("clips", "covers", "sound")
ITEM_COLUMNS: dict[str, pl.DataType] = {
    "item": pl.UInt32(),
    "item_id": pl.Int64(),
    "title": pl.String(),
    "tag": pl.String(),
    "likes": pl.Int64(),
    "views": pl.Int64(),
    **dict.fromkeys(_KINDS, pl.Boolean()),
    "duration": pl.Float64(),
    "width": pl.Int64(),
    "height": pl.Int64(),
    "fps": pl.Float64(),
    "codec": pl.String(),
    "faults": pl.List(pl.String()),
}
"""Columns of ``items.parquet`` and their types; ``item_id`` is String if item ids are text.

Titles in several languages are in further columns, ``title_en``, ``title_zh`` and the like.
"""


class Dataset:
    """A prepared dataset: a manifest, interactions, item and user tables, and content stores.

    Datasets are made from a release folder by :func:`microlens.data.prepare.prepare`, or from data frames by
    :meth:`from_frame`. The manifest is checked at construction, arrays and tables on first use: :class:`InputError`
    names the missing or damaged file.

    Users are numbered 0..U-1 and items 1..N (0 is padding), both in ascending order of their ids. Ids are 64-bit
    integers or text, see :attr:`user_ids` and :attr:`item_ids`.

    Args:
        folder: dataset folder.

    Raises:
        InputError: the folder is not a dataset, is unfinished or damaged, or has another format version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._checked, text = read_manifest(self.folder)
        self.manifest: dict[str, Any] = json.loads(text)
        self._has_text_ids = {name: kind == "string" for name, kind in self._checked.ids}
        tables = ("items.parquet", *(["users.parquet"] if self._has_text_ids["user"] else []))
        for name in (*tables, *(f"interactions/{array}.npy" for array in ARRAYS)):
            if not (self.folder / name).is_file():
                raise InputError(f"{self.folder / name} is missing; {PREPARE_AGAIN}.")

    @staticmethod
    def from_frame(
        frame: Any,
        folder: str | Path,
        *,
        user: str | int = "user",
        item: str | int = "item",
        time: str | int | None = None,
        items: Any = None,
        item_id: str | int | None = None,
        videos: str | Path | Mapping[Any, Any] | None = None,
        covers: str | Path | Mapping[Any, Any] | None = None,
        sounds: str | Path | Mapping[Any, Any] | None = None,
        name: str | None = None,
        settings: Settings | None = None,
        workers: int | None = None,
        progress: bool = False,
    ) -> "Dataset":
        """Create a dataset from a data frame of interactions, or open one created from the same data.

        Frames may be polars or pandas data frames, pyarrow Tables, or any object with the Arrow C stream interface. An
        interrupted preparation resumes. Repeated (user, item) pairs are dropped and counted.

        Args:
            frame: one row per interaction.
            folder: dataset folder.
            user: column of user ids: integers, text or UUIDs. Columns that pandas numbers have their number.
            item: column of item ids.
            time: column of times: numbers (seconds, milliseconds, microseconds or nanoseconds since 1970, recognized by
                magnitude), datetimes or ISO 8601 text. None if each user's rows are already in order of time.
            items: frame with one row per item: its id and any of the columns title, tag, likes and views.
            item_id: column of item ids in ``items``; ``item`` by default.
            videos: folder of files named by item id, mapping of item ids to paths, or column of paths in ``items``.
            covers: cover images, given in the same way.
            sounds: sound files, given in the same way; items without one use the sound of their video.
            name: name of the dataset; the folder's name by default.
            settings: how media are decoded and stored.
            workers: number of decoding processes; one per core by default.
            progress: show a progress bar.

        Raises:
            InputError: a column is missing or has an invalid value (the message gives the row, counted from 0), no user
                has enough items for the protocol, or ``folder`` holds something else. Nothing is written in this case.
            OSError: the disk is full; finished parts are kept.
        """
        from microlens.data.dataset_writer import write_dataset  # avoids a circular import
        from microlens.data.frames import FrameSource

        folder = Path(folder)
        source = FrameSource(
            name or folder.resolve().name,
            frame,
            (str(user), str(item), None if time is None else str(time)),
            items,
            str(item if item_id is None else item_id),
            {"clips": videos, "covers": covers, "sound": sounds},
        )
        return write_dataset(source, folder, settings, workers=workers, progress=progress)

    @property
    def name(self) -> str:
        """The name of the dataset."""
        return self._checked.name

    @property
    def checksum(self) -> str:
        """A digest of the sources and settings that the dataset was prepared from."""
        return self._checked.checksum

    @property
    def settings(self) -> Settings:
        """How media were decoded and stored."""
        return self._checked.settings

    def __repr__(self) -> str:
        return "\n".join(f"{name + ':':<14}{value}" for name, value in self._described().items())

    def _repr_html_(self) -> str:
        """HTML representation for notebooks."""
        rows = "".join(
            f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(value)}</td></tr>'
            for name, value in self._described().items()
        )
        return f"<table>{rows}</table>"

    def _described(self) -> dict[str, str]:
        counts = self._checked.counts
        sizes = {**dict(counts.release), **{kind: getattr(counts, kind) for kind in _KINDS}}
        ids = ", ".join(f"{name} {kind}" for name, kind in self._checked.ids)
        numbers = {name: f"{value:,}" for name, value in sizes.items()}
        return {"Dataset": self.name, **numbers, "ids": ids, "folder": str(self.folder)}

    @cached_property
    def interactions(self) -> Interactions:
        """All interactions, memory-mapped."""
        interactions = Interactions.open(self.folder / "interactions")
        found = (interactions.num_users, interactions.num_items, interactions.num_events)
        release = self._checked.counts.release
        if found != (release.users, release.items, release.interactions):
            raise InputError(
                f"{self.folder / 'interactions'} holds {found[0]:,} users, {found[1]:,} items and {found[2]:,} "
                f"interactions, unlike the counts in manifest.json; {PREPARE_AGAIN}."
            )
        return interactions

    @cached_property
    def items(self) -> pl.DataFrame:
        """One row per item, in order of item numbers: id, title, tag, likes, views, available content, faults."""
        path = self.folder / "items.parquet"
        items = _read_table(path)
        text_ids = self._has_text_ids["item"]
        _check_columns(path, items, ITEM_COLUMNS | ({"item_id": pl.String()} if text_ids else {}))
        keys = self.interactions.item_ids[1:]
        if not _are_ids(items["item_id"], keys) or not np.array_equal(items["item"], np.arange(1, len(keys) + 1)):
            raise InputError(f"{path} does not list the {len(keys):,} items of interactions; {PREPARE_AGAIN}.")
        if any(items[kind].null_count() for kind in _KINDS):
            raise InputError(f"{path} does not state for every item whether it has content; {PREPARE_AGAIN}.")
        if (items["width"] < 1).any() or (items["height"] < 1).any():
            raise InputError(f"{path} holds a video without width or height; {PREPARE_AGAIN}.")
        return items

    def events(self) -> pl.LazyFrame:
        """The interactions, oldest first for each user, by id: columns user, item, timestamp and comment.

        Several comments of a user on an item are joined by line breaks; comment is null where there is none.

        Raises:
            InputError: the table of interactions is missing.
        """
        return scan_events(self.folder)

    @cached_property
    def user_ids(self) -> pl.Series:
        """User ids in ascending order, (U,): Int64, or String if they are text."""
        keys = self.interactions.user_ids
        if not self._has_text_ids["user"]:
            return pl.Series("user_id", keys)
        path = self.folder / "users.parquet"
        users = _read_table(path)
        _check_columns(path, users, {"user_id": pl.String()})
        if not _are_ids(users["user_id"], keys):
            raise InputError(f"{path} does not list the {len(keys):,} users of interactions; {PREPARE_AGAIN}.")
        return users["user_id"]

    @cached_property
    def item_ids(self) -> pl.Series:
        """Item ids in ascending order, (N,), item number 1 first: Int64, or String if they are text."""
        if not self._has_text_ids["item"]:
            return pl.Series("item_id", self.interactions.item_ids[1:])
        return self.items["item_id"]

    def user_number(self, user: Id) -> int:
        """Return the number of a user, the index of its id in :attr:`user_ids`.

        Integer ids may be given as text, and vice versa.

        Raises:
            InputError: the user is unknown.
        """
        (index,) = positions_of([user], self.user_ids)
        if index < 0:
            raise InputError(f"user {user} is not among the {len(self.user_ids):,} users of {self.folder}.")
        return int(index)

    def item_numbers(self, items: Iterable[Id]) -> Int64:
        """Return the numbers (n,), 1..N, of items by their ids, which may be given as in :meth:`user_number`.

        Raises:
            InputError: an item is unknown; the message names the first.
        """
        if isinstance(items, str) or not isinstance(items, Iterable):
            raise InputError(f"items is {items!r}; it takes a list of ids, such as [{items!r}].")
        wanted = list(items)
        indices = positions_of(wanted, self.item_ids)
        if (indices < 0).any():
            unknown = wanted[int(np.argmax(indices < 0))]
            raise InputError(f"item {unknown} is not among the {len(self.item_ids):,} items of {self.folder}.")
        return indices + 1

    def item_id_array(self, numbers: Int64) -> ItemIds:
        """Return the ids (n,) of item ``numbers`` (n,): integers, or objects of type str; 0 or "" for padding."""
        if not self._has_text_ids["item"]:
            return self.interactions.item_ids[numbers]
        return np.array(["", *self.item_ids], object)[numbers]

    def item_id(self, key: int) -> Id:
        """Return the id of the item with ``key`` in the interactions and content stores."""
        item: Id = self.item_ids[int(key) - 1] if self._has_text_ids["item"] else int(key)
        return item

    def split(self, protocol: Protocol) -> Split:
        """Split the interactions according to ``protocol``; a large split is stored in the dataset folder."""
        interactions, excluded = self.interactions, self._without(protocol.require)
        if interactions.num_events < FEWEST_EVENTS:
            return make_split(interactions, protocol, excluded)
        folder = self.folder / "splits" / protocol.hash
        return stored_split(folder, self.checksum, interactions, protocol, excluded)

    def _without(self, kinds: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """Boolean mask (N+1,) of the item numbers that lack one of ``kinds``."""
        missing = np.zeros(self.interactions.num_items + 1, bool)
        for kind in kinds:
            if kind not in _KINDS:
                raise InputError(f"protocol.require names '{kind}'; accepted are clips, covers, sound.")
            missing[1:] |= ~self.items[kind].to_numpy()
        return missing


def _check_columns(path: Path, table: pl.DataFrame, columns: Mapping[str, pl.DataType]) -> None:
    wrong = next((name for name, kind in columns.items() if table.schema.get(name) != kind), None)
    if wrong is not None:
        raise InputError(
            f"{path} has {f'{table.schema[wrong]} in' if wrong in table.schema else 'no'} column '{wrong}', which "
            f"is of {columns[wrong]}; {PREPARE_AGAIN}."
        )


def _are_ids(ids: pl.Series, keys: Int64) -> bool:
    """True if ``ids`` match ``keys``: equal integers, or ascending text ids with the keys 1, 2, ..."""
    if ids.dtype != pl.String:
        return np.array_equal(ids, keys)
    ascending = ids.is_sorted() and ids.n_unique() == len(ids) and not ids.has_nulls()
    return ascending and np.array_equal(keys, np.arange(1, len(ids) + 1))


def _read_table(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); {PREPARE_AGAIN}.") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        raise InputError(f"{path} is not a complete Parquet file; {PREPARE_AGAIN}.") from None
