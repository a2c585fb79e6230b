"""Writing a release in the official layout."""

import re
from pathlib import Path

import numpy as np
import polars as pl

from microlens.errors import InputError
from microlens.files.writing import link_or_copy
from microlens.release.exports.order import readable_order
from microlens.release.folder import is_reserved
from microlens.release.formats.tables import Tables
from microlens.release.given_split import PARTS
from microlens.release.title_files import ORIGINAL

FEATURES = "features"
_FALLBACK_NAME = "data"
_BLANK = r"\s"


def write_official(tables: Tables, folder: Path) -> tuple[str, ...]:
    """Write a release with its interactions as csv or, without times, as tsv."""
    timed = "timestamp" in tables.events.columns
    return write_official_csv(tables, folder) if timed else write_official_tsv(tables, folder)


def write_official_csv(tables: Tables, folder: Path) -> tuple[str, ...]:
    """Write a release with its interactions as csv; without times, the positions of a user's items stand for them."""
    events, notes = readable_order(tables.events), []
    if "timestamp" not in events.columns:
        events = events.with_columns((pl.int_range(pl.len()).over("user")).alias("timestamp"))
        notes.append("there are no times; 0, 1, ... in their place give the order of each user's items")
    events.select("user", "item", "timestamp").write_csv(folder / f"{prefix(tables.name)}_pairs.csv")
    return (*notes, *_write_others(tables, folder))


def write_official_tsv(tables: Tables, folder: Path) -> tuple[str, ...]:
    """Write a release with its interactions as tsv: each user's items, oldest first.

    Raises:
        InputError: an item id holds a blank.
    """
    timed = "timestamp" in tables.events.columns
    events = tables.events.sort("timestamp", maintain_order=True).drop("timestamp") if timed else tables.events
    events = readable_order(events)
    items = pl.col("item").cast(pl.String)
    with_blank = events.select(items.filter(items.str.contains(_BLANK))).to_series()
    if len(with_blank):
        raise InputError(
            f"{tables.files[0]}: the item id '{with_blank[0]}' holds a blank, which separates items where there are no "
            "times."
        )
    path = folder / f"{prefix(tables.name)}_pairs.tsv"
    histories = events.group_by("user", maintain_order=True).agg(items.str.join(" "))
    histories.write_csv(path, separator="\t", include_header=False, quote_style="never")
    notes = ("the times are not kept, only the order of each user's items",) if timed else ()
    return (*notes, *_write_others(tables, folder))


def prefix(name: str) -> str:
    """A name that makes no other part of a release of a file whose name begins with it."""
    plain = re.sub(r"[^\w.-]+", "_", name).strip("._")
    return _FALLBACK_NAME if not plain or is_reserved(plain) else plain


def _write_others(tables: Tables, folder: Path) -> tuple[str, ...]:
    """Write the tables beside the interactions, and the features with their ids."""
    name = prefix(tables.name)
    for part, table in {**_titles(tables.titles), "tags": tables.tags}.items():
        if table is not None:
            table.write_csv(folder / f"{name}_{part}.csv")
    for part, table in (("likes_and_views", tables.likes), ("comment_en", tables.comments)):
        if table is not None:
            table.write_csv(folder / f"{name}_{part}.txt", separator="\t", include_header=False)
    if "split" in tables.events.columns:
        parts = pl.col("split").replace_strict(dict(enumerate(PARTS)), return_dtype=pl.String)
        tables.events.select("user", "item", parts).write_csv(folder / f"{name}_split.csv")
    return tuple(_copy_features(path, folder / FEATURES) for path in tables.features)


def _titles(titles: pl.DataFrame | None) -> dict[str, pl.DataFrame | None]:
    """The tables of titles by the end of their file's name: one, or one for each language."""
    languages = [] if titles is None else [name for name in titles.columns if name.startswith("title_")]
    if titles is None or not languages:
        return {"titles": titles}
    return {
        name.removesuffix(f"_{ORIGINAL}"): titles.select("item", pl.col(name).alias("title")).drop_nulls()
        for name in languages
    }


def _copy_features(path: Path, folder: Path) -> str:
    """Bring a file of features whose row r belongs to item r, with the ids of its rows; returns a note."""
    try:
        shape = np.load(path, mmap_mode="r").shape
    except (OSError, ValueError) as error:
        return f"{path.name} is not read: {error}"
    folder.mkdir(exist_ok=True)
    link_or_copy(path, folder / path.name)
    np.save(folder / f"{path.stem}.ids.npy", np.arange(shape[0]))
    return f"{path.name}: {shape[0]:,} rows, for the items 0 to {shape[0] - 1:,}, in {FEATURES}/"
