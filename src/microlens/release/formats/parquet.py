"""Parquet tables: ``interactions.parquet``, and perhaps ``items.parquet`` and ``comments.parquet`` beside it.

A prepared dataset holds the same tables.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from microlens.errors import InputError
from microlens.files.json_files import read_json
from microlens.release.formats.frames import tables_of_frames
from microlens.release.formats.tables import Tables

INTERACTIONS = "interactions.parquet"
BESIDE = {"items": "items.parquet", "comments": "comments.parquet"}
_MANIFEST, _SPLIT = "manifest.json", Path("interactions", "split.npy")


def read_parquet(path: Path) -> Tables:
    """Read a table of interactions and, if it is called ``interactions.parquet``, the tables beside it.

    Raises:
        InputError: a file is damaged, a column is missing, or a value is invalid.
    """
    paths = {"interactions": path}
    if path.name.lower() == INTERACTIONS:
        paths |= {name: path.with_name(file) for name, file in BESIDE.items() if path.with_name(file).is_file()}
    named = path.resolve()
    name = named.parent.name if path.name.lower() == INTERACTIONS else named.stem
    tables = tables_of_frames(name, list(paths.values()), {name: _read(path) for name, path in paths.items()})
    return _of_dataset(path.parent, tables) if is_dataset(path.parent) else tables


def is_dataset(folder: Path) -> bool:
    """True if ``folder`` is a prepared dataset."""
    return (folder / _MANIFEST).is_file() and (folder / INTERACTIONS).is_file()


def _of_dataset(folder: Path, tables: Tables) -> Tables:
    """The tables with the name and the split of the dataset; positions in a sequence are no times."""
    name = read_json(folder / _MANIFEST, dict[str, Any], "prepare the dataset again").get("name", tables.name)
    events = without_positions(tables.events)
    if (folder / _SPLIT).is_file():
        events = events.with_columns(pl.Series("split", np.load(folder / _SPLIT)))
    return replace(tables, name=str(name), events=events)


def without_positions(events: pl.DataFrame) -> pl.DataFrame:
    """``events``, sorted by user, without timestamps that only count the items of each user: 0, 1, ..."""
    positions = pl.int_range(pl.len()).over("user")
    counted = bool(events.select((pl.col("timestamp") == positions).all()).item())
    return events.drop("timestamp") if counted else events


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        raise InputError(f"{path} is not a complete Parquet file; copy it again.") from None
