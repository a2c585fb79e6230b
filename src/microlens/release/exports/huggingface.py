"""Writing datasets of the Hugging Face library datasets."""

from pathlib import Path
from typing import Any

import polars as pl

from microlens.release.exports.items import comments_of, items_of
from microlens.release.formats.huggingface import PART_NAMES, TABLES, huggingface_datasets
from microlens.release.formats.tables import Tables
from microlens.release.given_split import PARTS


def write_huggingface(tables: Tables, folder: Path) -> tuple[str, ...]:
    """Write a folder for each of interactions, items and comments, which ``load_from_disk`` reads.

    Interactions with a split are a DatasetDict of train, validation and test.

    Raises:
        InputError: the library is not installed.
    """
    library = huggingface_datasets("microlens data convert --to huggingface")
    written = (_interactions(library, tables.events), items_of(tables), comments_of(tables))
    for name, table in zip(TABLES, written, strict=True):
        if table is not None:
            stored = _dataset(library, table) if isinstance(table, pl.DataFrame) else table
            stored.save_to_disk(str(folder / name))
    return ()


def _interactions(library: Any, events: pl.DataFrame) -> Any:
    if "split" not in events.columns:
        return events
    parts = {
        name: events.filter(pl.col("split") == PARTS.index(part)).drop("split") for name, part in PART_NAMES.items()
    }
    return library.DatasetDict({name: _dataset(library, part) for name, part in parts.items()})


def _dataset(library: Any, table: pl.DataFrame) -> Any:
    return library.Dataset(table.to_arrow(compat_level=pl.CompatLevel.oldest()))
