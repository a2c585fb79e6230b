"""Tables of a dataset that match each other: one part for each interaction, and ids of one type."""

from dataclasses import replace
from typing import Literal

import polars as pl

from microlens.release.columns import integers
from microlens.release.formats.tables import SideTables, Tables
from microlens.release.text_files import shown

_BESIDE: tuple[Literal["titles", "tags", "likes", "comments"], ...] = ("titles", "tags", "likes", "comments")


def with_one_part_each(tables: Tables) -> Tables:
    """The tables with, where they hold a split, the first row in time of each user and item, as ``prepare`` keeps it.

    A split names its interactions by user and item, so the part has to be that of the row that is kept.
    """
    if "split" not in tables.events.columns:
        return tables
    events = tables.events.with_row_index()
    if "timestamp" in events.columns:
        events = events.sort("timestamp", maintain_order=True)
    kept = events.unique(["user", "item"], keep="first", maintain_order=True).sort("index").drop("index")
    if len(kept) == len(events):
        return tables
    note = f"dropped are later repeats of a user and item, with their parts: {len(events) - len(kept):,}"
    return replace(tables, events=kept, notes=(*tables.notes, note))


def with_ids_of_events(tables: Tables) -> Tables:
    """The tables without rows of titles, tags, likes and comments whose ids are no integers, if those of events are.

    The ids that stay are written as integers are, such as 1 for 1.0, and the first row of an item counts.
    """
    changed: SideTables = {}
    notes = list(tables.notes)
    whole = [name for name in ("user", "item") if tables.events.schema[name] != pl.String]
    for kind in _BESIDE:
        table: pl.DataFrame | None = getattr(tables, kind)
        names = [name for name in whole if table is not None and name in table.columns]
        if table is None or not names:
            continue
        read = table.with_columns(integers(pl.col(name)) for name in names)
        kept = read.drop_nulls(names).with_columns(pl.col(names).cast(pl.String))
        if len(kept) < len(read):
            wrong = pl.concat([table[name].filter(read[name].is_null()) for name in names])
            notes.append(
                f"{kind}: dropped are rows whose ids are no integers, as those of the interactions are: "
                f"{len(read) - len(kept):,}, such as '{shown(wrong[0] or '')}'"
            )
        if kind != "comments":  # of which an item may have several
            kept = kept.unique("item", keep="first", maintain_order=True)
        changed[kind] = None if kept.is_empty() else kept
    return replace(tables, **changed, notes=tuple(notes))
