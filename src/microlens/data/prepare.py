"""Preparing a dataset folder from a release folder."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import polars as pl

from microlens.data.dataset import Dataset
from microlens.data.dataset_writer import write_dataset
from microlens.data.source import Origin, Source, Table, Unused
from microlens.engines.base import Engine
from microlens.files.progress_bar import OnProgress
from microlens.media.decoding import Settings
from microlens.release.events import Events
from microlens.release.folder import MEDIA
from microlens.release.given_split import GivenSplit, read_given_split
from microlens.release.ids import TextIds
from microlens.release.media_files import MediaFiles, find_media, find_remote_media
from microlens.release.metadata import Metadata, read_comments, read_likes, read_tags, read_titles
from microlens.release.pairs import open_events
from microlens.release.remote import OpenRelease, open_release
from microlens.release.whole_release import name_of_release

_ITEM_TABLES: dict[str, Callable[[Path, TextIds], Metadata]] = {
    "tags": read_tags,
    "likes": read_likes,
}
_FRAMES_UNUSED = "taken by other code; clips are made of the videos themselves"


def prepare(
    release_folder: str | Path,
    folder: str | Path,
    settings: Settings | None = None,
    *,
    workers: int | None = None,
    memory: int | None = None,
    engine: Engine | None = None,
    shards: str | None = None,
    progress: bool = False,
    on_progress: OnProgress | None = None,
) -> Dataset:
    """Read a release and write the dataset folder ``folder``; resume an interrupted preparation.

    A finished dataset is opened if it was made from the same release with the same settings.

    Args:
        release_folder: folder in the official layout, see docs/data.md, or its address, such as ``s3://bucket/folder``.
        folder: dataset folder.
        settings: how media are decoded and stored.
        workers: number of decoding processes; one per core by default.
        memory: bytes of memory that reading and sorting the interactions may take, see docs/large-data.md; a quarter
            of what is available by default.
        engine: where media are decoded, instead of processes of this machine.
        shards: address of a folder that receives decoded media from the machines of ``engine`` and keeps them; the same
            call elsewhere makes the dataset from them without decoding.
        progress: show progress bars.
        on_progress: called with (done, total) media files, instead of their bar.

    Returns:
        The dataset. Its manifest holds sources with size and SHA-256, settings, counts, everything dropped and why, how
        tables were read, and the faults of media files by item.

    Raises:
        InputError: the release cannot be read or has no user that the protocol keeps, or ``folder`` or
            ``folder.partial`` holds something else (nothing is written in these cases); or decoding processes do not
            start.
        OSError: the disk is full; finished parts are kept.
    """
    with open_release(release_folder) as release:
        return write_dataset(
            ReleaseSource(release),
            Path(folder),
            settings,
            workers=workers,
            memory=memory,
            engine=engine,
            shards=shards,
            progress=progress,
            on_progress=on_progress,
        )


class ReleaseSource(Source):
    """Source of a release folder."""

    def __init__(self, release: OpenRelease) -> None:
        self._release, self._address = release.release, release.address

    @property
    def name(self) -> str:
        """The name of the pairs file before "pairs", or else the folder's name."""
        return name_of_release(self._release)

    @cached_property
    def origins(self) -> list[Origin]:
        """The table files."""
        return [Origin.of_file(path) for path in self._release.tables]

    @property
    def unused(self) -> list[Unused]:
        """Files and folders that are not part of a release, and video frames extracted by other code."""
        found = [
            Unused(what="files and folders of the release", names=names, why=why)
            for why, names in self._release.unused.items()
        ]
        frames = self._find("frames", ()).unused
        return found + [
            Unused(what=f"{suffix or 'other'} files of frames", names=names, why=_FRAMES_UNUSED)
            for (suffix, _), names in frames.items()
        ]

    def events(self) -> Events:
        """Open the pairs file."""
        return open_events(self._release.pairs)

    def read_items(self, text_ids: TextIds) -> list[Table]:
        """Read the files of titles, tags and likes that exist."""
        paths = {part: getattr(self._release, part) for part in _ITEM_TABLES}
        return self._read_titles(text_ids) + [
            Table(name=path.name, metadata=_ITEM_TABLES[part](path, text_ids)) for part, path in paths.items() if path
        ]

    def _read_titles(self, text_ids: TextIds) -> list[Table]:
        """Read the titles: the column title, those by language, and the titles of other sets."""
        release = self._release
        columns: dict[Path, list[str]] = {release.titles: ["title"]} if release.titles else {}
        for column, path in release.title_columns.items():
            columns.setdefault(path, []).append(column)
        tables = [_renamed(path, read_titles(path, text_ids), names) for path, names in columns.items()]
        others = [
            Table(name=path.name, metadata=read_titles(path, text_ids), fills=True) for path in release.other_titles
        ]
        return tables + others

    def read_comments(self, text_ids: TextIds) -> Table | None:
        """Read the comments."""
        path = self._release.comments
        return Table(name=path.name, metadata=read_comments(path, text_ids)) if path else None

    def read_split(self, text_ids: TextIds) -> GivenSplit | None:
        """Read the split."""
        path = self._release.split
        return read_given_split(path, text_ids) if path else None

    def media(self, *, text_ids: bool) -> dict[str, MediaFiles]:
        """The files in the folders of videos, covers and sounds, by the item id in their names."""
        return {kind: self._find(name, suffixes, text_ids=text_ids) for kind, (name, suffixes) in MEDIA.items()}

    def _find(self, part: str, suffixes: Sequence[str], *, text_ids: bool = False) -> MediaFiles:
        folders: tuple[Path, ...] = getattr(self._release, part)
        if self._address is None:
            return find_media(folders, suffixes, text_ids=text_ids)
        addresses = [f"{self._address}/{folder.name}" for folder in folders]
        return find_remote_media(addresses, suffixes, text_ids=text_ids)


def _renamed(path: Path, titles: Metadata, columns: list[str]) -> Table:
    """A table with the titles in ``columns``, and a note if there are other columns than title."""
    notes = [*titles.notes, *([f"{path.name} gives the columns {', '.join(columns)}"] if columns != ["title"] else [])]
    table = titles.table.select("item_id", *(pl.col("title").alias(column) for column in columns))
    return Table(name=path.name, metadata=replace(titles, table=table, notes=tuple(notes)))
