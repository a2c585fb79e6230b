"""From a release folder to a dataset folder."""

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from microlens.data.dataset import Dataset
from microlens.data.dataset_writer import write_dataset
from microlens.data.source import Origin, Source, Table, Unused
from microlens.files.progress_bar import OnProgress
from microlens.media.decoding import Settings
from microlens.release.folder import MEDIA, find_release
from microlens.release.ids import TextIds
from microlens.release.media_files import MediaFiles, find_media
from microlens.release.metadata import Metadata, read_comments, read_likes, read_tags, read_titles
from microlens.release.pairs import Pairs, read_pairs

_ITEM_TABLES: dict[str, Callable[[Path, TextIds], Metadata]] = {
    "titles": read_titles,
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
    """Read a release and write the dataset folder ``folder``; go on where an interrupted preparation stopped.

    A dataset that was finished before is opened, if it was made of the same release with the same settings.

    Args:
        release_folder: a folder in the official layout, see docs/data.md.
        folder: the dataset folder.
        settings: what to make of the media.
        workers: decoding processes; one a core by default.
        progress: show a progress bar.
        on_progress: called with (done, total) media files, in place of a bar.

    Returns:
        The dataset. Its manifest holds sources with size and SHA-256, settings, counts, everything dropped and why, how
        tables were read, and the faults of media files by item.

    Raises:
        InputError: the release cannot be read or has no user whom the protocol keeps, or ``folder`` or
            ``folder.partial`` holds something else: nothing has been written then. Or decoding processes do not start.
        OSError: the disk is full; what was finished is kept.
    """
    source = ReleaseSource(Path(release_folder))
    return write_dataset(source, Path(folder), settings, workers=workers, progress=progress, on_progress=on_progress)


class ReleaseSource(Source):
    """A release folder.

    Raises:
        InputError: the folder or its pairs file is missing, or two files could be the same part.
    """

    def __init__(self, folder: Path) -> None:
        self._release = find_release(folder)

    @property
    def name(self) -> str:
        """What stands before "pairs" in the name of that file, or the folder's name."""
        release = self._release
        return re.sub(r"(?i)pairs(\.\w+)+$", "", release.pairs.name).rstrip("_-") or release.folder.resolve().name

    @cached_property
    def origins(self) -> list[Origin]:
        """The table files."""
        return [Origin.of_file(path) for path in self._release.tables]

    @property
    def unused(self) -> list[Unused]:
        """Files and folders that are no part of a release, and frames that other code took."""
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
        """Read titles, tags and likes, as far as there are any."""
        paths = {part: getattr(self._release, part) for part in _ITEM_TABLES}
        return [
            Table(name=path.name, metadata=_ITEM_TABLES[part](path, text_ids)) for part, path in paths.items() if path
        ]

    def read_comments(self, text_ids: TextIds) -> Table | None:
        """Read the comments."""
        path = self._release.comments
        return Table(name=path.name, metadata=read_comments(path, text_ids)) if path else None

    def media(self, *, text_ids: bool) -> dict[str, MediaFiles]:
        """The files in the folders of videos, covers and sounds, by the id that is their name."""
        return {
            kind: find_media(getattr(self._release, name), suffixes, text_ids=text_ids)
            for kind, (name, suffixes) in MEDIA.items()
        }
