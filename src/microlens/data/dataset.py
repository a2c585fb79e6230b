"""A prepared dataset folder, opened for reading."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from microlens.data.interactions import ARRAYS, Interactions
from microlens.data.manifest import PREPARE_AGAIN, read_manifest
from microlens.data.protocol import Protocol
from microlens.data.split import Split, make_split
from microlens.errors import InputError
from microlens.media.decoding import Settings

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
"""The columns of ``items.parquet``, and their types."""


class Dataset:
    """What ``microlens data prepare`` wrote: a manifest, interactions, item and user tables, and content stores.

    The manifest is checked at once, arrays and tables when they are first asked for: :class:`InputError` names the file
    that is missing or damaged.

    Raises:
        InputError: the folder is no dataset, is unfinished or damaged, or has another format version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._checked, text = read_manifest(folder)
        self.manifest: dict[str, Any] = json.loads(text)
        for name in ("items.parquet", *(f"interactions/{array}.npy" for array in ARRAYS)):
            if not (folder / name).is_file():
                raise InputError(f"{folder / name} is missing; {PREPARE_AGAIN}.")

    @property
    def name(self) -> str:
        """The release's name."""
        return self._checked.name

    @property
    def checksum(self) -> str:
        """A digest of the sources and settings that the dataset was made of."""
        return self._checked.checksum

    @property
    def settings(self) -> Settings:
        """What was made of the release's media."""
        return self._checked.settings

    @cached_property
    def interactions(self) -> Interactions:
        """All events of the release, memory-mapped."""
        interactions = Interactions.open(self.folder / "interactions")
        found = (interactions.num_users, interactions.num_items, interactions.num_events)
        release = self._checked.counts.release
        if found != (release.users, release.items, release.interactions):
            raise InputError(
                f"{self.folder / 'interactions'} holds {found[0]:,} users, {found[1]:,} items and {found[2]:,} "
                f"interactions, not those that manifest.json counts; {PREPARE_AGAIN}."
            )
        return interactions

    @cached_property
    def item_ids(self) -> pl.Series:
        """The ids of the items, in the order of their numbers from 1."""
        return pl.Series("item", np.array(self.interactions.item_ids[1:]))

    @cached_property
    def user_ids(self) -> pl.Series:
        """The ids of the users, in the order of their numbers from 0."""
        return pl.Series("user", np.array(self.interactions.user_ids))

    @cached_property
    def items(self) -> pl.DataFrame:
        """One row an item, in the order of item numbers: id, title, tag, likes, views, what content it has, faults."""
        path = self.folder / "items.parquet"
        items = _read_table(path)
        wrong = next((name for name, kind in ITEM_COLUMNS.items() if items.schema.get(name) != kind), None)
        if wrong is not None:
            raise InputError(
                f"{path} has {f'{items.schema[wrong]} in' if wrong in items.schema else 'no'} column '{wrong}', which "
                f"is of {ITEM_COLUMNS[wrong]}; {PREPARE_AGAIN}."
            )
        item_ids = self.interactions.item_ids[1:]
        if not np.array_equal(items["item_id"], item_ids) or not np.array_equal(
            items["item"], np.arange(1, len(item_ids) + 1)
        ):
            raise InputError(f"{path} does not list the {len(item_ids):,} items of interactions; {PREPARE_AGAIN}.")
        if any(items[kind].null_count() for kind in _KINDS):
            raise InputError(f"{path} does not say of every item whether it has content; {PREPARE_AGAIN}.")
        if (items["width"] < 1).any() or (items["height"] < 1).any():
            raise InputError(f"{path} holds a video without width or height; {PREPARE_AGAIN}.")
        return items

    def split(self, protocol: Protocol) -> Split:
        """Split the interactions as ``protocol`` says."""
        return make_split(self.interactions, protocol, self._without(protocol.require))

    def _without(self, kinds: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """Which item numbers lack one of ``kinds``, (N+1,)."""
        missing = np.zeros(self.interactions.num_items + 1, bool)
        for kind in kinds:
            if kind not in _KINDS:
                raise InputError(f"protocol.require names '{kind}'; accepted are clips, covers, sound.")
            missing[1:] |= ~self.items[kind].to_numpy()
        return missing


def _read_table(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); {PREPARE_AGAIN}.") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        raise InputError(f"{path} is no whole Parquet file; {PREPARE_AGAIN}.") from None
