"""The table of events of a dataset: interactions with their comments."""

from pathlib import Path

import polars as pl

from microlens.data.manifest import PREPARE_AGAIN
from microlens.errors import InputError


def scan_events(folder: Path) -> pl.LazyFrame:
    """The interactions of the dataset ``folder`` with comments, see :meth:`microlens.data.dataset.Dataset.events`."""
    path, comments = (folder / f"{name}.parquet" for name in ("interactions", "comments"))
    if not path.is_file():
        raise InputError(f"{path} is missing; {PREPARE_AGAIN}.")
    events, keys = pl.scan_parquet(path, glob=False), ["user_id", "item_id"]
    if not comments.is_file():
        return events.with_columns(pl.lit(None, pl.String).alias("comment"))
    texts = pl.scan_parquet(comments, glob=False)
    by_pair = texts.group_by(keys, maintain_order=True).agg(pl.col("text").str.join("\n"))
    joined = events.join(by_pair, left_on=["user", "item"], right_on=keys, how="left", maintain_order="left")
    return joined.rename({"text": "comment"})
