"""Writing a part of a release as a release: its interactions, the tables of the items left, and their media."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from microlens.errors import InputError
from microlens.files.progress_bar import OnProgress
from microlens.files.writing import check_is_new, link_or_copy, renamed_when_complete
from microlens.release.exports.official import prefix, write_official
from microlens.release.folder import MEDIA, find_release
from microlens.release.formats.tables import Tables, text_ids_of
from microlens.release.media_files import find_media

Media = tuple[str, str, Path]
"""A media file of a release: the folder of its kind, the item id as text, and its path."""

_WRITTEN = "[!.]*"


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step of a selection left: its name, and the numbers of users, items and interactions after it."""

    name: str
    users: int
    items: int
    interactions: int

    @classmethod
    def of(cls, name: str, events: pl.DataFrame) -> "Step":
        """The step that left ``events``."""
        return cls(
            name=name, users=events["user"].n_unique(), items=events["item"].n_unique(), interactions=len(events)
        )


@dataclass(frozen=True, kw_only=True)
class Subset:
    """A part of a release that was written: the ``steps`` of the selection, the release first, and ``notes``.

    ``media`` is the number of media files.
    """

    steps: tuple[Step, ...]
    media: int
    notes: tuple[str, ...]


def write_subset(
    source: Path,
    out: Path,
    tables: Tables,
    steps: Sequence[Step],
    *,
    renumber: bool,
    on_progress: OnProgress | None = None,
) -> Subset:
    """Write the release ``out`` with the interactions that are left, and the tables and media of their items.

    Args:
        source: the release that ``tables`` were read from.
        out: release folder; must not exist.
        tables: the tables of ``source`` with the events that are left.
        steps: the steps that led to them.
        renumber: number users and items 1, 2, ... in ascending order of their ids. The files ``NAME_user_ids.csv`` and
            ``NAME_item_ids.csv`` give the former ids.
        on_progress: called with (done, total) media files.

    Raises:
        InputError: nothing is left, or ``out`` exists; nothing is written in these cases.
    """
    if tables.events.is_empty():
        raise InputError(f"nothing of {source} is left after the step '{steps[-1].name}'.")
    check_is_new(out)
    media = media_of(source, tables)
    tables = restricted(tables)
    with renamed_when_complete(out, [_WRITTEN]) as folder:
        new_ids = {name: _numbers(tables.events[name]) for name in ("user", "item")} if renumber else {}
        notes = write_official(_renamed(tables, new_ids), folder)
        _write_maps(new_ids, folder, prefix(tables.name))
        link_media(_named(media, new_ids.get("item")), folder, on_progress)
    return Subset(steps=tuple(steps), media=len(media), notes=(*tables.notes, *notes))


def media_of(source: Path, tables: Tables) -> list[Media]:
    """The media files in a release of the items that have interactions in ``tables``."""
    release = find_release(source)
    left = set(tables.events["item"].unique().to_list())
    return [
        (name, str(item), path)
        for name, suffixes in MEDIA.values()
        for item, path in find_media(
            getattr(release, name), suffixes, text_ids=text_ids_of(tables.events).item
        ).by_item.items()
        if item in left
    ]


def restricted(tables: Tables) -> Tables:
    """``tables`` with the rows of the items, and the comments of the users, that have interactions."""
    left = {name: tables.events[name].unique().cast(pl.String) for name in ("user", "item")}

    def restricted(table: pl.DataFrame) -> pl.DataFrame | None:
        keys = [name for name in left if name in table.columns]
        kept = table.filter(pl.all_horizontal(pl.col(name).is_in(left[name].implode()) for name in keys))
        return None if kept.is_empty() else kept

    return _with_others(tables, restricted)


def _numbers(ids: pl.Series) -> pl.DataFrame:
    """New ids 1, 2, ... of the distinct ``ids`` in ascending order: columns new and old."""
    return pl.DataFrame({"old": ids.unique().sort()}).with_row_index("new", offset=1).cast({"new": pl.Int64})


def _renamed(tables: Tables, new_ids: dict[str, pl.DataFrame]) -> Tables:
    """``tables`` with new ids: integers in the events, and the same as text in the other tables."""

    def renamed(table: pl.DataFrame, kind: type[pl.DataType]) -> pl.DataFrame:
        for name in (name for name in new_ids if name in table.columns):
            found = new_ids[name].select(pl.col("old").cast(table.schema[name]).alias(name), pl.col("new").cast(kind))
            joined = table.join(found, on=name, how="left", maintain_order="left")
            table = joined.with_columns(pl.col("new").alias(name)).drop("new")
        return table

    tables = replace(tables, events=renamed(tables.events, pl.Int64))
    return _with_others(tables, lambda table: renamed(table, pl.String))


def _with_others(tables: Tables, change: Callable[[pl.DataFrame], pl.DataFrame | None]) -> Tables:
    """``tables`` with the tables beside the events changed, where they exist."""
    titles, tags, likes, comments = (
        None if table is None else change(table)
        for table in (tables.titles, tables.tags, tables.likes, tables.comments)
    )
    return replace(tables, titles=titles, tags=tags, likes=likes, comments=comments)


def _write_maps(new_ids: dict[str, pl.DataFrame], folder: Path, name: str) -> None:
    for key, table in new_ids.items():
        table.rename({"new": key, "old": f"former_{key}"}).write_csv(folder / f"{name}_{key}_ids.csv")


def _named(media: Sequence[Media], new_ids: pl.DataFrame | None) -> list[Media]:
    """Media files by the new ids of their items."""
    names = {} if new_ids is None else dict(new_ids.select(pl.all().cast(pl.String)).select("old", "new").iter_rows())
    return [(kind, names.get(item, item), path) for kind, item, path in media]


def link_media(media: Sequence[Media], folder: Path, on_progress: OnProgress | None = None) -> None:
    """Link media files into the folders of their kinds in ``folder``, named by item id."""
    for kind in {kind for kind, _, _ in media}:
        (folder / kind).mkdir()
    for done, (kind, item, path) in enumerate(media, 1):
        link_or_copy(path, folder / kind / f"{item}{path.suffix}")
        if on_progress is not None:
            on_progress(done, len(media))
