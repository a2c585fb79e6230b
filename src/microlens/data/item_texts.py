"""Tables of texts of items, such as the texts in their pictures."""

from pathlib import Path

import numpy as np
import polars as pl

from microlens.data.interactions import ItemIds
from microlens.errors import InputError


def read_item_texts(path: Path, item_ids: ItemIds) -> list[str]:
    """Read the texts of ``item_ids`` (N,) from a Parquet file with the columns item_id and text, in that order.

    The distinct texts of an item are joined by blanks, in the order of the rows; an item without a row has "".

    Raises:
        InputError: the file is missing or damaged, has no such columns, or names none of the items.
    """
    table = _read(path)
    wanted = pl.DataFrame({"item_id": pl.Series(item_ids.tolist(), dtype=_id_type(item_ids))})
    if table.schema["item_id"] != wanted.schema["item_id"]:
        raise InputError(
            f"{path}: its column item_id is of {table.schema['item_id']}, the ids of the dataset are of "
            f"{wanted.schema['item_id']}."
        )
    joined = (
        table.drop_nulls()
        .unique(maintain_order=True)
        .group_by("item_id", maintain_order=True)
        .agg(pl.col("text").str.join(" "))
    )
    texts = wanted.join(joined, on="item_id", how="left", maintain_order="left")["text"]
    if len(table) and texts.null_count() == len(texts):
        raise InputError(f"{path} holds texts of other items; make it from this dataset.")
    return texts.fill_null("").to_list()


def _id_type(item_ids: ItemIds) -> type[pl.DataType]:
    return pl.String if item_ids.dtype == np.dtype(object) else pl.Int64


def _read(path: Path) -> pl.DataFrame:
    try:
        table = pl.read_parquet(path, columns=["item_id", "text"], glob=False)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; write it with: microlens features DATASET --encoder ocr") from None
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        raise InputError(f"{path} is not a complete Parquet file with the columns item_id and text.") from None
    if table.schema["text"] != pl.String:
        raise InputError(f"{path}: its column text is of {table.schema['text']}; it has to be of String.")
    integers = table.schema["item_id"].is_integer()
    return table.cast({"item_id": pl.Int64}) if integers else table
