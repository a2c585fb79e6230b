"""Writing Parquet tables, as a prepared dataset has them."""

from pathlib import Path

from microlens.release.exports.items import comments_of, items_of
from microlens.release.formats.parquet import BESIDE, INTERACTIONS
from microlens.release.formats.tables import Tables


def write_parquet(tables: Tables, folder: Path) -> tuple[str, ...]:
    """Write ``interactions.parquet`` and, if they are known, ``items.parquet`` and ``comments.parquet``."""
    tables.events.write_parquet(folder / INTERACTIONS)
    for name, table in (("items", items_of(tables)), ("comments", comments_of(tables))):
        if table is not None:
            table.write_parquet(folder / BESIDE[name])
    return ()
