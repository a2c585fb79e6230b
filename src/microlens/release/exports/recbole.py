"""Writing RecBole's atomic files."""

from pathlib import Path

import polars as pl

from microlens.errors import InputError
from microlens.release.exports.items import items_of
from microlens.release.exports.official import prefix
from microlens.release.exports.order import readable_order
from microlens.release.formats.tables import Tables
from microlens.release.given_split import PARTS

_EVENTS = {"user": "user_id:token", "item": "item_id:token", "timestamp": "timestamp:float"}
_ITEMS = {
    "item_id": "item_id:token",
    "title": "title:token_seq",
    "tag": "tag:token",
    "likes": "likes:float",
    "views": "views:float",
}


def write_recbole(tables: Tables, folder: Path) -> tuple[str, ...]:
    """Write ``NAME.inter`` and, if titles, tags or likes are known, ``NAME.item``.

    Interactions with a split are written as ``NAME.train.inter``, ``NAME.valid.inter`` and ``NAME.test.inter``.

    Raises:
        InputError: a part of the split is empty, or text ids cannot be told from integers.
    """
    name = prefix(tables.name)
    for ending, events in _parts(readable_order(tables.events)).items():
        _write(events, folder / f"{name}{ending}.inter", _EVENTS)
    items = items_of(tables)
    if items is not None:
        _write(items, folder / f"{name}.item", _ITEMS)
    return ("comments are not written",) if tables.comments is not None else ()


def _parts(events: pl.DataFrame) -> dict[str, pl.DataFrame]:
    if "split" not in events.columns:
        return {"": events}
    parts = {f".{part}": events.filter(pl.col("split") == number) for number, part in enumerate(PARTS)}
    empty = next((name for name, part in parts.items() if part.is_empty()), None)
    if empty is not None:
        raise InputError(f"the split has no {empty.removeprefix('.')} interactions, which RecBole needs.")
    return parts


def _write(table: pl.DataFrame, path: Path, names: dict[str, str]) -> None:
    kept = {name: typed for name, typed in names.items() if name in table.columns}
    plain = table.select(*kept).with_columns(pl.col(pl.String).str.replace_all("\t", " ", literal=True))
    plain.rename(kept).write_csv(path, separator="\t", quote_style="never")
