"""Writing MMRec's interactions."""

from pathlib import Path

import polars as pl

from microlens.errors import InputError
from microlens.release.exports.official import prefix
from microlens.release.formats.tables import Tables
from microlens.release.given_split import TEST, TRAIN, VALID

_NAMES = {"user": "userID", "item": "itemID", "timestamp": "timestamp", "split": "x_label"}


def write_mmrec(tables: Tables, folder: Path) -> tuple[str, ...]:
    """Write ``NAME.inter`` with ``x_label``; without a split, the last item of a user is test, the one before it valid.

    Raises:
        InputError: ids are not integers from 0, which MMRec takes as row numbers.
    """
    events, notes = tables.events, []
    for name in ("user", "item"):
        kind = events.schema[name]
        if kind == pl.String or (events[name] < 0).any():
            raise InputError(
                f"{name} ids are {'text' if kind == pl.String else 'below 0'}, but MMRec takes them as row numbers; "
                "number them anew with: microlens data filter RELEASE OUT --renumber"
            )
    if "split" not in events.columns:
        events = _leave_one_out(events)
        notes.append("x_label: the last item of each user is test (2), the one before it validation (1)")
    if any(table is not None for table in (tables.titles, tables.tags, tables.likes, tables.comments)):
        notes.append("only interactions are written")
    kept = {name: own for name, own in _NAMES.items() if name in events.columns}
    events.select(*kept).rename(kept).write_csv(folder / f"{prefix(tables.name)}.inter", separator="\t")
    return tuple(notes)


def _leave_one_out(events: pl.DataFrame) -> pl.DataFrame:
    ordered = events.sort("user", *(["timestamp"] if "timestamp" in events.columns else []), maintain_order=True)
    left = pl.len().over("user") - pl.int_range(pl.len()).over("user") - 1
    label = pl.when(left == 0).then(TEST).when(left == 1).then(VALID).otherwise(TRAIN)
    return ordered.with_columns(label.cast(pl.Int8).alias("split"))
