"""Converting datasets in the formats of other packages to releases."""

import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from microlens.errors import InputError
from microlens.files.writing import check_is_new, renamed_when_complete
from microlens.release.folder import is_reserved
from microlens.release.formats import FORMATS, format_of
from microlens.release.formats.tables import Tables

_ACCEPTED = ", ".join(one.accepted for one in FORMATS.values())
_FALLBACK_NAME = "data"
_PARTS = ("pairs.csv", "pairs.tsv", "titles.csv", "tags.csv")


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was converted: the ``format``, numbers of users, items and interactions, titles and tags, and ``notes``."""

    format: str
    users: int
    items: int
    interactions: int
    titles: int
    tags: int
    notes: tuple[str, ...]


def convert(source: str | Path, out: str | Path, format: str | None = None) -> Conversion:  # noqa: A002
    """Write a dataset in another format as a release folder, which :func:`microlens.prepare` reads.

    The release holds ``NAME_pairs.csv`` (or, without timestamps, ``NAME_pairs.tsv``) and, where the source has them,
    ``NAME_titles.csv`` and ``NAME_tags.csv``. Ids are kept as they are, and times are written in milliseconds.

    Args:
        source: a file of interactions or the folder that holds it, see docs/data.md.
        out: folder of the release; must not exist.
        format: "recbole", "s3rec" or "movielens"; recognised by the name or the first line of the file by default.

    Raises:
        InputError: the format is unknown or not recognised, a file of the source cannot be read (the message names the
            file and the line), or ``out`` exists. Nothing is written in these cases.
    """
    source, out = Path(source), Path(out)
    check_is_new(out)
    path, name = _find(source, format)
    tables = FORMATS[name].read(path)
    prefix = _prefix(tables.name)
    with renamed_when_complete(out, [f"{prefix}_{part}" for part in _PARTS]) as folder:
        _write_pairs(folder / f"{prefix}_pairs", tables.events, path)
        for part, table in (("titles", tables.titles), ("tags", tables.tags)):
            if table is not None:
                table.write_csv(folder / f"{prefix}_{part}.csv")
    return Conversion(
        format=name,
        users=tables.events["user"].n_unique(),
        items=tables.events["item"].n_unique(),
        interactions=len(tables.events),
        titles=0 if tables.titles is None else len(tables.titles),
        tags=0 if tables.tags is None else len(tables.tags),
        notes=(*tables.notes, *_unread(source, tables)),
    )


def _find(source: Path, name: str | None) -> tuple[Path, str]:
    """The file of interactions in ``source``, and the name of its format."""
    if name is not None and name not in FORMATS:
        raise InputError(f"there is no format '{name}'; accepted are {', '.join(FORMATS)}.")
    if not source.exists():
        raise InputError(f"{source} does not exist; accepted are {_ACCEPTED}.")
    if source.is_dir():
        return _find_in_folder(source, name)
    found = name or format_of(source)
    if found is None:
        raise InputError(f"{source} is in no known format; accepted are {_ACCEPTED}.")
    return source, found


def _find_in_folder(folder: Path, name: str | None) -> tuple[Path, str]:
    formats = {name: FORMATS[name]} if name else FORMATS
    entries = sorted(folder.iterdir())
    found = [(path, one) for one, form in formats.items() for path in entries if form.is_named(path)]
    if len(found) > 1:
        names = ", ".join(path.name for path, _ in found)
        raise InputError(f"{folder} holds several files of interactions ({names}); name one of them.")
    if not found:
        accepted = ", ".join(form.accepted for form in formats.values())
        raise InputError(f"{folder} holds no file of interactions in a known format; accepted are {accepted}.")
    return found[0]


def _prefix(name: str) -> str:
    """A name that makes no other part of a release of a file whose name begins with it."""
    plain = re.sub(r"[^\w.-]+", "_", name).strip("._")
    return _FALLBACK_NAME if not plain or is_reserved(plain) else plain


def _write_pairs(stem: Path, events: pl.DataFrame, source: Path) -> None:
    if "timestamp" in events.columns:
        events.write_csv(stem.with_name(f"{stem.name}.csv"))
        return
    items = pl.col("item").cast(pl.String)
    with_blank = events.select(items.filter(items.str.contains(r"\s"))).to_series()
    if len(with_blank):
        raise InputError(
            f"{source}: the item id '{with_blank[0]}' holds a blank, which separates items where there are no times."
        )
    histories = events.group_by("user", maintain_order=True).agg(items.str.join(" "))
    histories.write_csv(stem.with_name(f"{stem.name}.tsv"), separator="\t", include_header=False, quote_style="never")


def _unread(source: Path, tables: Tables) -> list[str]:
    """A note on files of the folder, or with the name of the file, that were not read."""
    beside = (
        source.iterdir() if source.is_dir() else (path for path in source.parent.iterdir() if path.stem == source.stem)
    )
    names = sorted(path.name for path in beside if path.is_file() and path not in tables.files)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"not read are {', '.join(names[:5])}{more}"] if names else []
