"""Converting datasets between releases and the formats of other packages."""

from dataclasses import dataclass
from pathlib import Path

from microlens.errors import InputError
from microlens.files.writing import check_is_new, renamed_when_complete
from microlens.release.exports import EXPORTS
from microlens.release.folder import holds_pairs
from microlens.release.formats import FORMATS, format_of, interactions_in
from microlens.release.formats.matching import with_ids_of_events, with_one_part_each
from microlens.release.formats.tables import Tables
from microlens.release.given_split import PARTS
from microlens.release.text_files import check_beginning, unpacked_name
from microlens.release.whole_release import read_release

RELEASE = "release"
_WHOLE_FOLDERS = (RELEASE, "huggingface")
_WRITTEN = "[!.]*"
_ACCEPTED = "; ".join([*(one.accepted for one in FORMATS.values()), "the folder of a release or a prepared dataset"])


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was converted: the ``format`` of the source and the format ``to`` which it was converted.

    Also the numbers of users, items and interactions, titles and tags, and ``notes``.
    """

    format: str
    to: str
    users: int
    items: int
    interactions: int
    titles: int
    tags: int
    notes: tuple[str, ...]


def convert(
    source: str | Path,
    out: str | Path,
    format: str | None = None,  # noqa: A002
    *,
    to: str = "official",
) -> Conversion:
    """Write a dataset as a release folder, which :func:`microlens.prepare` reads, or in the format of another package.

    A release holds ``NAME_pairs.csv`` (or, without timestamps, ``NAME_pairs.tsv``) and, where the source has them,
    titles, tags, likes and views, comments, and the split that the dataset came with, ``NAME_split.csv``. Ids are kept
    as they are, and times are written in milliseconds.

    Args:
        source: a release, a prepared dataset, or a dataset in another format: its file of interactions, or the folder
            that holds it; see docs/processing.md.
        out: folder that is written; must not exist.
        format: "mmrec", "recbole", "s3rec", "parquet", "huggingface", "movielens" or "release"; recognised by the name
            or the first line of the file by default.
        to: "official", "official-csv", "official-tsv", "croissant", "recbole", "mmrec", "parquet" or "huggingface".

    Raises:
        InputError: a format is unknown or not recognised, a file of the source cannot be read (the message names the
            file and the line), ``out`` exists, the format ``to`` cannot hold the dataset, or the package it needs is
            not installed. Nothing is written in these cases.
    """
    source, out = Path(source), Path(out)
    if to not in EXPORTS:
        raise InputError(f"there is no format '{to}' to write; accepted are {', '.join(EXPORTS)}.")
    check_is_new(out)
    tables, name = _read(source, format)
    tables = with_ids_of_events(with_one_part_each(tables))
    with renamed_when_complete(out, [_WRITTEN]) as folder:
        written = EXPORTS[to].write(tables, folder)
    return Conversion(
        format=name,
        to=to,
        users=tables.events["user"].n_unique(),
        items=tables.events["item"].n_unique(),
        interactions=len(tables.events),
        titles=0 if tables.titles is None else len(tables.titles),
        tags=0 if tables.tags is None else len(tables.tags),
        notes=(*tables.notes, *_split_note(tables), *written, *_unread(source, tables, name)),
    )


def _read(source: Path, name: str | None) -> tuple[Tables, str]:
    """The tables of ``source``, and the name of its format."""
    if name not in (None, RELEASE, *FORMATS):
        raise InputError(f"there is no format '{name}'; accepted are {', '.join([*FORMATS, RELEASE])}.")
    if not source.exists():
        raise InputError(f"{source} does not exist; accepted are {_ACCEPTED}.")
    if name == RELEASE:
        return read_release(source), RELEASE
    if source.is_dir():
        return _read_folder(source, name)
    found = name or format_of(source)
    if found is None:
        check_beginning(source)  # a damaged file does not tell its format
        raise InputError(f"{source} is in no known format; accepted are {_ACCEPTED}.")
    return FORMATS[found].read(source), found


def _read_folder(folder: Path, name: str | None) -> tuple[Tables, str]:
    found = interactions_in(folder, name)
    if len(found) > 1:
        names = ", ".join(path.relative_to(folder).as_posix() for path, _ in found)
        raise InputError(f"{folder} holds several files of interactions ({names}); name one of them.")
    if found:
        path, form = found[0]
        return FORMATS[form].read(path), form
    if name is None and holds_pairs(folder):
        return read_release(folder), RELEASE
    accepted = FORMATS[name].accepted if name else _ACCEPTED
    raise InputError(f"{folder} holds no file of interactions in a known format; accepted are {accepted}.")


def _split_note(tables: Tables) -> list[str]:
    if "split" not in tables.events.columns:
        return []
    counts = [f"{int((tables.events['split'] == number).sum()):,} {part}" for number, part in enumerate(PARTS)]
    return [f"a split of {', '.join(counts)} interactions; to use it: microlens bench TABLE --protocol given"]


def _unread(source: Path, tables: Tables, name: str) -> list[str]:
    """A note on files of the folder, or with the name of the file, that were not read."""
    if name in _WHOLE_FOLDERS:
        return []
    stems = {Path(unpacked_name(source)).stem, tables.name}
    entries = (
        source.iterdir()
        if source.is_dir()
        else (path for path in source.parent.iterdir() if Path(unpacked_name(path)).stem in stems)
    )
    names = sorted(path.name for path in entries if path.is_file() and path not in tables.files)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"not read: {', '.join(names[:5])}{more}"] if names else []
