"""The order of rows in text tables, whose first row decides whether ids are read as integers or as text."""

import polars as pl

from microlens.errors import InputError
from microlens.release.ids import is_text


def readable_order(events: pl.DataFrame) -> pl.DataFrame:
    """``events`` in an order in which their ids are read as what they are; the order of a user's events stays.

    The first of a user's events may move before those of other users.

    Raises:
        InputError: ids are text, but so many look like integers that no order will do.
    """
    text = [name for name in ("user", "item") if events.schema[name] == pl.String]
    unlike = [name for name in text if not is_text(events[name][0])]
    if not unlike:
        return events
    first = events.with_row_index("row").filter(pl.col("user").is_first_distinct())
    for row, *values in first.select("row", *text).iter_rows():
        if all(is_text(value) for value in values):
            is_first = pl.col("user") == events["user"][row]
            return pl.concat([events.filter(is_first), events.filter(~is_first)])
    raise InputError(
        f"{unlike[0]} ids are text that looks like integers, such as '{events[unlike[0]][0]}', which text "
        "tables cannot hold; write parquet, or number the ids anew with: microlens data filter RELEASE OUT --renumber"
    )
