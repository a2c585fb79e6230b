"""A release as tables in memory."""

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl

from microlens.release.folder import Release, find_release
from microlens.release.formats.parquet import without_positions
from microlens.release.formats.tables import SideTables, Tables
from microlens.release.given_split import read_given_split
from microlens.release.ids import TextIds
from microlens.release.metadata import Metadata, read_comments, read_likes, read_tags, read_titles
from microlens.release.pairs import read_pairs


def name_of_release(release: Release) -> str:
    """The name of the pairs file before "pairs", or else the folder's name."""
    return re.sub(r"(?i)pairs(\.\w+)+$", "", release.pairs.name).rstrip("_-") or release.folder.resolve().name


def read_release(folder: Path) -> Tables:
    """Read all tables of a release. Repeated (user, item) pairs are dropped, as :func:`microlens.prepare` does.

    Raises:
        InputError: the folder is no release, or one of its tables cannot be read.
    """
    release = find_release(folder)
    pairs = read_pairs(release.pairs)
    events, notes = without_positions(pairs.with_ids()), list(pairs.notes)
    if pairs.repeated:
        notes.append(f"{release.pairs.name}: dropped are later repeats of a user and item: {pairs.repeated:,}")
    if release.split is not None:
        given = read_given_split(release.split, pairs.text_ids)
        events = events.join(given.table, on=["user", "item"], how="left", maintain_order="left")
    beside = SideTables(
        titles=_titles(release, pairs.text_ids, notes),
        tags=_table(release.tags, read_tags, pairs.text_ids, notes),
        likes=_table(release.likes, read_likes, pairs.text_ids, notes),
        comments=_table(release.comments, read_comments, pairs.text_ids, notes),
    )
    return Tables(
        name=name_of_release(release), files=tuple(release.tables), events=events, notes=tuple(notes), **beside
    )


def _titles(release: Release, text_ids: TextIds, notes: list[str]) -> pl.DataFrame | None:
    """The titles, and those of each language in a column of its own if there are several."""
    notes += [f"{path.name} is left out: it holds titles of another set" for path in release.other_titles]
    titles = _table(release.titles, read_titles, text_ids, notes)
    for column, path in release.title_columns.items():
        own = _table(path, read_titles, text_ids, [] if path == release.titles else notes)
        if titles is not None and own is not None:
            named = own.rename({"title": column})
            titles = titles.join(named, on="item", how="full", coalesce=True, maintain_order="left_right")
    return titles


def _table(
    path: Path | None, read: Callable[[Path, TextIds], Metadata], text_ids: TextIds, notes: list[str]
) -> pl.DataFrame | None:
    if path is None:
        return None
    metadata = read(path, text_ids)
    notes += metadata.notes
    table = metadata.table.rename({"item_id": "item", "user_id": "user"}, strict=False)
    keys = [name for name in ("user", "item") if name in table.columns]
    return None if table.is_empty() else table.with_columns(pl.col(keys).cast(pl.String))
