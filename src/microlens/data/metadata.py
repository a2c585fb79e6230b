"""Reading what a release says about its items: titles, tags, likes and views, comments.

These files are dirty in practice (unbalanced quotes, commas inside titles, missing headers, lines that run on), so
every reader here takes what is well formed and counts what is not; nothing in them can stop a job.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """One metadata file: a table keyed by ``item_id`` (or user and item), and how many lines could not be read."""

    table: pl.DataFrame
    unreadable: int


def read_titles(path: Path) -> Metadata:
    """Read ``item,title`` lines into columns item_id and title.

    The id ends at the first comma; a title may be quoted, hold commas, and run over several lines when quoted.
    """
    return _keyed_text(path, "title")


def read_tags(path: Path) -> Metadata:
    """Read ``item,tag`` lines into columns item_id and tag."""
    return _keyed_text(path, "tag")


def read_likes(path: Path) -> Metadata:
    """Read ``item TAB likes TAB views`` lines into columns item_id, likes and views."""
    cells = _lines(path).select(pl.col("line").str.split("\t").alias("cells"))
    table = cells.select(
        *(
            pl.col("cells").list.get(place, null_on_oob=True).str.strip_chars().cast(pl.Int64, strict=False).alias(name)
            for place, name in enumerate(("item_id", "likes", "views"))
        )
    )
    return _without_unreadable(table, "item_id")


def read_comments(path: Path) -> Metadata:
    """Read ``user TAB item TAB text`` lines into columns user_id, item_id and text."""
    cells = _lines(path).select(pl.col("line").str.splitn("\t", 3).alias("cells")).unnest("cells")
    table = cells.select(
        pl.col("field_0").str.strip_chars().cast(pl.Int64, strict=False).alias("user_id"),
        pl.col("field_1").str.strip_chars().cast(pl.Int64, strict=False).alias("item_id"),
        pl.col("field_2").alias("text"),
    )
    whole = table.drop_nulls()
    return Metadata(table=whole, unreadable=len(table) - len(whole))


def _lines(path: Path) -> pl.DataFrame:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = pl.DataFrame({"line": text.split("\n")}, schema={"line": pl.String})
    return lines.with_columns(pl.col("line").str.strip_suffix("\r")).filter(pl.col("line") != "")


def _keyed_text(path: Path, name: str) -> Metadata:
    parts = _lines(path).select(
        pl.col("line").str.extract(r'^\s*"?(-?\d{1,18})"?\s*,', 1).cast(pl.Int64, strict=False).alias("item_id"),
        pl.col("line"),
    )
    # A line without an id belongs to the record above it; lines before the first record are the header.
    records = (
        parts.with_columns(pl.col("item_id").is_not_null().cum_sum().alias("record"))
        .filter(pl.col("record") > 0)
        .group_by("record", maintain_order=True)
        .agg(pl.col("item_id").first(), pl.col("line").str.join(" "))
    )
    text = pl.col("line").str.splitn(",", 2).struct.field("field_1").str.strip_chars()
    quoted = text.str.starts_with('"') & text.str.ends_with('"') & (text.str.len_chars() > 1)
    unquoted = text.str.slice(1, text.str.len_chars() - 2).str.replace_all('""', '"', literal=True)
    table = records.select("item_id", pl.when(quoted).then(unquoted).otherwise(text).alias(name))
    header = parts.head(1).filter(pl.col("item_id").is_null()).height
    before_first = parts.filter(pl.col("item_id").is_not_null().cum_sum() == 0).height
    kept = _without_unreadable(table, "item_id")
    return Metadata(table=kept.table, unreadable=kept.unreadable + before_first - header)


def _without_unreadable(table: pl.DataFrame, key: str) -> Metadata:
    readable = table.filter(pl.col(key).is_not_null())
    unique = readable.unique(key, keep="first", maintain_order=True)
    return Metadata(table=unique, unreadable=len(table) - len(unique))
