"""The files of a release folder, found by the names that official releases give them."""

from dataclasses import dataclass
from pathlib import Path

from microlens.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".ts")
COVER_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SOUND_SUFFIXES = (".m4a", ".aac", ".mp3", ".wav", ".flac", ".ogg", ".opus")

_PAIRS_ACCEPTED = "a file named *pairs.csv (user,item,timestamp) or *pairs.tsv (user TAB item item ...)"


@dataclass(frozen=True, kw_only=True)
class Release:
    """Where the parts of a release lie; everything but the pairs may be missing."""

    folder: Path
    pairs: Path
    titles: Path | None
    tags: Path | None
    likes: Path | None
    comments: Path | None
    videos: Path | None
    covers: Path | None
    sounds: Path | None

    @property
    def tables(self) -> list[Path]:
        """The table files that are present."""
        return [path for path in (self.pairs, self.titles, self.tags, self.likes, self.comments) if path]


def find_release(folder: Path) -> Release:
    """Look for the parts of a release in ``folder``.

    Raises:
        InputError: the folder or its pairs file is missing, or two files could be the same part.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; a release is a folder with {_PAIRS_ACCEPTED}.")
    # The csv carries timestamps, so it is preferred where a release has both.
    pairs = _one_file(folder, "*pairs.csv") or _one_file(folder, "*pairs.tsv")
    if pairs is None:
        raise InputError(f"{folder} holds no interactions; expected {_PAIRS_ACCEPTED}.")
    return Release(
        folder=folder,
        pairs=pairs,
        titles=_one_file(folder, "*title*.csv"),
        tags=_one_file(folder, "*tags*.csv"),
        likes=_one_file(folder, "*likes*.txt"),
        comments=_one_file(folder, "*comment*.txt") or _one_file(folder, "*comment*.tsv"),
        videos=_one_folder(folder, "*videos"),
        covers=_one_folder(folder, "*covers"),
        sounds=_one_folder(folder, "*audios"),
    )


def media_by_item(folder: Path | None, suffixes: tuple[str, ...]) -> tuple[dict[int, Path], list[Path]]:
    """Media files by item id (the file's stem), and what looks like one but is no file or not named by an item id.

    Where an item has several files the suffix that comes first in ``suffixes`` wins.
    """
    found: dict[int, Path] = {}
    strangers: list[Path] = []
    if folder is None:
        return found, strangers
    rank = {suffix: position for position, suffix in enumerate(suffixes)}
    candidates = [path for path in folder.iterdir() if path.suffix.lower() in rank and not path.name.startswith(".")]
    for path in sorted(candidates, key=lambda path: (rank[path.suffix.lower()], path.name)):
        if path.stem.isascii() and path.stem.isdecimal() and path.is_file():
            found.setdefault(int(path.stem), path)
        else:
            strangers.append(path)
    return dict(sorted(found.items())), strangers


def _one_file(folder: Path, pattern: str) -> Path | None:
    return _one([path for path in folder.glob(pattern) if path.is_file()], folder, pattern)


def _one_folder(folder: Path, pattern: str) -> Path | None:
    return _one([path for path in folder.glob(pattern) if path.is_dir()], folder, pattern)


def _one(matches: list[Path], folder: Path, pattern: str) -> Path | None:
    if len(matches) > 1:
        names = ", ".join(sorted(path.name for path in matches))
        raise InputError(f"{folder} holds several entries named {pattern} ({names}); keep one.")
    return matches[0] if matches else None
