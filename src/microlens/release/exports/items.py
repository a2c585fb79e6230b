"""The table of items that several formats hold."""

import polars as pl

from microlens.release.formats.tables import Tables


def items_of(tables: Tables) -> pl.DataFrame | None:
    """Titles, tags, likes and views by item: columns item_id, of the type of the events, and those that are known."""
    known = [table for table in (tables.titles, tables.tags, tables.likes) if table is not None]
    if not known:
        return None
    items = pl.concat([table.select("item") for table in known]).unique(maintain_order=True)
    for table in known:
        items = items.join(table, on="item", how="left", maintain_order="left")
    return items.with_columns(pl.col("item").cast(tables.events.schema["item"])).rename({"item": "item_id"})


def comments_of(tables: Tables) -> pl.DataFrame | None:
    """The comments: columns user_id and item_id, of the types of the events, and text."""
    if tables.comments is None:
        return None
    kinds = {name: tables.events.schema[name] for name in ("user", "item")}
    typed = tables.comments.with_columns(pl.col(name).cast(kind) for name, kind in kinds.items())
    return typed.rename({"user": "user_id", "item": "item_id"})
