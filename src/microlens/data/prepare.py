"""Preparing a dataset folder from a release folder."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import polars as pl

from microlens.data.dataset import Dataset
from microlens.data.dataset_writer import write_dataset
from microlens.data.source import Origin, Source, Table, Unused
from microlens.files.progress_bar import OnProgress
from microlens.media.decoding import Settings
from microlens.release.folder import MEDIA, find_release
from microlens.release.given_split import GivenSplit, read_given_split
from microlens.release.ids import TextIds
from microlens.release.media_files import MediaFiles, find_media
from microlens.release.metadata import Metadata, read_comments, read_likes, read_tags, read_titles
from microlens.release.pairs import Pairs, read_pairs
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
    progress: bool = False,
    on_progress: OnProgress | None = None,
) -> Dataset:
    """Read a release and write the dataset folder ``folder``; resume an interrupted preparation.

    A finished dataset is opened if it was made from the same release with the same settings.

    Args:
        release_folder: folder in the official layout, see docs/data.md.
        folder: dataset folder.
        settings: how media are decoded and stored.
        workers: number of decoding processes; one per core by default.
        progress: show a progress bar.
        on_progress: called with (done, total) media files, instead of the bar.

    Returns:
        The dataset. Its manifest holds sources with size and SHA-256, settings, counts, everything dropped and why, how
        tables were read, and the faults of media files by item.

    Raises:
        InputError: the release cannot be read or has no user that the protocol keeps, or ``folder`` or
            ``folder.partial`` holds something else (nothing is written in these cases); or decoding processes do not
            start.
        OSError: the disk is full; finished parts are kept.
    """
    source = ReleaseSource(Path(release_folder))
    return write_dataset(source, Path(folder), settings, workers=workers, progress=progress, on_progress=on_progress)


class ReleaseSource(Source):
    """Source of a release folder.

    Raises:
        InputError: the folder or its pairs file is missing, or two files match the same part of the release.
    """

    def __init__(self, folder: Path) -> None:
        self._release = find_release(folder)

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
        frames = find_media(self._release.frames, ()).unused
        return found + [
            Unused(what=f"{suffix or 'other'} files of frames", names=names, why=_FRAMES_UNUSED)
            for (suffix, _), names in frames.items()
        ]

    def read_pairs(self) -> Pairs:
        """Read the pairs file."""
        return read_pairs(self._release.pairs)

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
        return {
            kind: find_media(getattr(self._release, name), suffixes, text_ids=text_ids)
            for kind, (name, suffixes) in MEDIA.items()
        }


def _renamed(path: Path, titles: Metadata, columns: list[str]) -> Table:
    """A table with the titles in ``columns``, and a note if there are other columns than title."""
    notes = [*titles.notes, *([f"{path.name} gives the columns {', '.join(columns)}"] if columns != ["title"] else [])]
    table = titles.table.select("item_id", *(pl.col("title").alias(column) for column in columns))
    return Table(name=path.name, metadata=replace(titles, table=table, notes=tuple(notes)))
