"""Reading what a release holds, whatever of it can be read; what cannot becomes a finding."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from microlens.errors import InputError
from microlens.release.folder import MEDIA, Release, find_release
from microlens.release.formats import FORMATS, format_of
from microlens.release.ids import Id, TextIds
from microlens.release.media_files import MediaFiles, find_media
from microlens.release.metadata import Metadata, read_comments, read_likes, read_tags, read_titles
from microlens.release.pairs import Pairs, pairs_at, pairs_in_order, read_pairs
from microlens.release.timestamps import read_moments
from microlens.verification.findings import Case, Finding, grouped, note

_READERS: dict[str, Callable[[Path, TextIds], Metadata]] = {
    "titles": read_titles,
    "tags": read_tags,
    "likes": read_likes,
    "comments": read_comments,
}
_INTERACTIONS = ".inter"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The parts of a release that could be read: interactions, tables and media files by kind.

    ``pairs_file`` holds the interactions; ``folder`` is None if there is nothing but this file. ``findings`` are about
    what could not be read, and how the rest was.
    """

    folder: Path | None
    pairs_file: Path
    pairs: Pairs
    tables: dict[str, Metadata]
    media: dict[str, MediaFiles]
    findings: list[Finding] = field(default_factory=list)

    @property
    def item_ids(self) -> list[Id]:
        """The ids of the items with interactions, ascending."""
        return self.pairs.with_ids()["item"].unique().sort().to_list()


def read_interactions(path: Path) -> tuple[Path, Pairs]:
    """The file of interactions at ``path``, a release, a file or a folder with one, and what it holds.

    Files of other packages are read too: RecBole's atomic files, and tables with the columns userID, itemID and
    timestamp, such as those of MMRec.

    Raises:
        InputError: there is no such file, or several, or it cannot be read.
    """
    file = _file_of_interactions(path) if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{path} does not exist; name a release or a file of interactions.")
    name = format_of(file) if file.suffix == _INTERACTIONS or not path.is_dir() else None
    if name is None or (name == "recbole" and not _has_types(file)):
        return file, read_pairs(file)
    tables = FORMATS[name].read(file)
    if "timestamp" in tables.events.columns:
        return file, pairs_at(tables.events, read_moments(tables.events["timestamp"]), tables.notes)
    return file, pairs_in_order(tables.events, tables.notes)


def read_contents(path: Path) -> Contents:
    """Read the release at ``path``; or, if it is a file of interactions or a folder with one, only these.

    Raises:
        InputError: the interactions are missing or cannot be read.
    """
    file, pairs = read_interactions(path)
    if not path.is_dir() or file.suffix == _INTERACTIONS:
        return Contents(folder=None, pairs_file=file, pairs=pairs, tables={}, media={}, findings=_notes(pairs.notes))
    release = find_release(path)
    tables, findings = _read_tables(release, pairs.text_ids)
    media = {
        kind: find_media(getattr(release, name), suffixes, text_ids=pairs.text_ids.item)
        for kind, (name, suffixes) in MEDIA.items()
    }
    return Contents(
        folder=path,
        pairs_file=file,
        pairs=pairs,
        tables=tables,
        media=media,
        findings=[*_notes(pairs.notes), *findings, *_unused(release)],
    )


def _file_of_interactions(folder: Path) -> Path:
    """The pairs of a release, or else the only atomic file in the folder."""
    try:
        return find_release(folder).pairs
    except InputError:
        others = sorted(path for path in folder.iterdir() if path.suffix == _INTERACTIONS and path.is_file())
        if len(others) != 1:
            raise
        return others[0]


def _has_types(path: Path) -> bool:
    """True if the header of an atomic file has the types of its columns, which MMRec leaves out."""
    with path.open("rb") as file:
        return b":" in file.readline(1 << 16)


def _read_tables(release: Release, text_ids: TextIds) -> tuple[dict[str, Metadata], list[Finding]]:
    tables: dict[str, Metadata] = {}
    faults: list[tuple[str, Case]] = []
    notes: list[Case] = []
    for part, read in _READERS.items():
        path = getattr(release, part)
        if path is None:
            continue
        try:
            table = tables[part] = read(path, text_ids)
        except InputError as error:
            faults.append(("tables that cannot be read", Case(why=str(error).replace(str(path), path.name))))
            continue
        notes += [Case(why=text) for text in table.notes]
        for count, what in (
            (table.unreadable, "rows that cannot be read or repeat an item"),
            (table.emptied, "numbers that are no 64-bit integers"),
        ):
            if count:
                faults.append((what, Case(file=path.name, why=f"{count:,} {what}")))
    return tables, [*grouped("tables", faults), *note("tables", "read as", notes)]


def _notes(notes: tuple[str, ...]) -> list[Finding]:
    return note("tables", "read as", (Case(why=text) for text in notes))


def _unused(release: Release) -> list[Finding]:
    cases = [Case(file=name, why=why) for why, names in release.unused.items() for name in names]
    return note("files", "not part of the release", cases)
