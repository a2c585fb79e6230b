"""Finding the files of a release folder by the names that official releases use."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from microlens.errors import InputError
from microlens.files.writing import MARK
from microlens.release.formats import format_of, hint
from microlens.release.media_files import name_of
from microlens.release.title_files import TitleFiles, choose_titles, set_and_language, set_of

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".ts", ".3gp", ".3g2", ".wmv", ".asf", ".mpg", ".mpeg",
    ".m1v", ".m2v", ".m2ts", ".mts", ".vob", ".ogv", ".ogm", ".ogg", ".f4v", ".qt", ".divx", ".xvid", ".mj2", ".mxf",
    ".dv", ".rm", ".rmvb", ".gif",
)  # fmt: skip
COVER_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".jpe", ".jfif", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".apng",
)  # fmt: skip
SOUND_SUFFIXES = (
    ".m4a", ".aac", ".mp3", ".wav", ".flac", ".ogg", ".opus", ".oga", ".spx", ".wma", ".mka", ".weba", ".m4b", ".mp2",
    ".ac3", ".eac3", ".aif", ".aiff", ".aifc", ".amr", ".au", ".caf", ".w64", ".wv", ".tta", ".mp4", ".webm", ".mov",
    ".mkv", ".3gp",
)  # fmt: skip
MEDIA: dict[str, tuple[str, tuple[str, ...]]] = {
    "clips": ("videos", VIDEO_SUFFIXES),
    "covers": ("covers", COVER_SUFFIXES),
    "sound": ("sounds", SOUND_SUFFIXES),
}
"""For each kind of content, its folder in a release and the accepted file suffixes."""
_PAIRS_ACCEPTED = "a file named *pairs.csv (user,item,timestamp) or *pairs.tsv (user TAB item item ...)"

# Name patterns of the parts and their suffixes, most likely first.
_TABLES = {
    "pairs": ("pairs$", (".csv", ".tsv", ".txt")),  # the csv carries timestamps
    "titles": ("title", (".csv", ".tsv", ".txt")),
    "tags": (r"tags|\btag\b", (".csv", ".tsv", ".txt")),
    "likes": ("likes", (".txt", ".tsv", ".csv")),
    "comments": ("comment", (".txt", ".tsv", ".csv")),
    "split": (r"\bsplit$", (".csv", ".tsv", ".txt")),
}
_FOLDERS = {
    "videos": r"videos$|\bvideo$",
    "covers": r"covers$|\bcover$|\bimages?$",
    "sounds": r"audios$|\baudio$|\bsounds?$",
    "frames": r"frames( interval \d+ number \d+)?$",
}
_ARCHIVE = re.compile(r"\.(zip|z\d+|rar|7z|tar|tgz|tar\.\w+)(\.\d+)?$")


@dataclass(frozen=True, kw_only=True)
class Release:
    """Paths of the parts of a release; every part except the pairs may be missing.

    If there are titles in several languages, ``title_columns`` holds all files by their columns (title_en, ...), and
    ``titles`` is the one that also gives the column title. ``other_titles`` are those of other sets, which can fill
    blank titles. ``frames`` are folders of video frames extracted by the original code, which are not read; ``unused``
    holds, by reason, the names of files and folders that are not part of a release.
    """

    folder: Path
    pairs: Path
    titles: Path | None
    tags: Path | None
    likes: Path | None
    comments: Path | None
    split: Path | None
    videos: tuple[Path, ...]
    covers: tuple[Path, ...]
    sounds: tuple[Path, ...]
    frames: tuple[Path, ...]
    unused: dict[str, list[str]]
    title_columns: dict[str, Path] = field(default_factory=dict)
    other_titles: tuple[Path, ...] = ()

    @property
    def tables(self) -> list[Path]:
        """The table files that are present."""
        tables = (self.pairs, self.titles, self.tags, self.likes, self.comments, self.split)
        present = [path for path in tables if path]
        return list(dict.fromkeys([*present, *self.title_columns.values(), *self.other_titles]))


def find_release(folder: Path) -> Release:
    """Find the parts of a release in ``folder``.

    Raises:
        InputError: the folder or its pairs file is missing, or two files match the same part.
    """
    if not folder.is_dir():
        foreign = hint([format_of(folder)]) if folder.is_file() else ""
        raise InputError(f"{folder} is not a folder; a release is a folder with {_PAIRS_ACCEPTED}{foreign}.")
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith(MARK))  # left out: download's state
    tables = {part: _table(folder, entries, part) for part in _TABLES if part != "titles"}
    pairs = tables.pop("pairs")
    if pairs is None:
        foreign = hint(format_of(path) for path in entries if path.is_file())
        raise InputError(f"{folder} holds no interactions; expected {_PAIRS_ACCEPTED}{foreign}.")
    titles = _titles(folder, entries, pairs)
    tables["titles"] = titles.titles
    folders = {
        part: tuple(path for path in entries if _is_called(path, pattern) and path.is_dir())
        for part, pattern in _FOLDERS.items()
    }
    used = {
        pairs,
        *tables.values(),
        *titles.columns.values(),
        *titles.others,
        *(path for paths in folders.values() for path in paths),
    }
    unused: dict[str, list[str]] = {}
    for path in entries:
        if path not in used:
            unused.setdefault(_why_unused(path, {"pairs": pairs, **tables}), []).append(name_of(Path(path.name)))
    return Release(
        folder=folder,
        pairs=pairs,
        titles=titles.titles,
        tags=tables["tags"],
        likes=tables["likes"],
        comments=tables["comments"],
        split=tables["split"],
        videos=folders["videos"],
        covers=folders["covers"],
        sounds=folders["sounds"],
        frames=folders["frames"],
        unused=unused,
        title_columns=titles.columns,
        other_titles=titles.others,
    )


def holds_pairs(folder: Path) -> bool:
    """True if ``folder`` holds the interactions of a release."""
    return _table(folder, sorted(folder.iterdir()), "pairs") is not None


def is_reserved(name: str) -> bool:
    """True if files whose names begin with ``name`` may be taken for another part of a release than they are."""
    return any(_is_called(Path(name), pattern.rstrip("$")) for pattern, _ in _TABLES.values())


def _table(folder: Path, entries: list[Path], part: str) -> Path | None:
    """Find the file of a part: with the most likely suffix that exists, preferably not compressed."""
    pattern, suffixes = _TABLES[part]
    for suffix in (*suffixes, *(f"{suffix}.gz" for suffix in suffixes)):
        matches = [
            path
            for path in entries
            if path.name.lower().endswith(suffix)
            and _is_called(Path(path.name[: -len(suffix)]), pattern)
            and path.is_file()
        ]
        if len(matches) > 1:
            raise _several(folder, part, matches)
        if matches:
            return matches[0]
    return None


def _titles(folder: Path, entries: list[Path], pairs: Path) -> TitleFiles:
    groups: dict[tuple[str, str], list[Path]] = {}
    for path in entries:
        if _is_called(path, _TABLES["titles"][0]) and path.is_file():
            groups.setdefault(set_and_language(re.sub(r"(\.\w+)(\.gz)?$", "", path.name)), []).append(path)
    tables = {key: _table(folder, paths, "titles") for key, paths in groups.items()}
    found = {key: table for key, table in tables.items() if table is not None}
    chosen = choose_titles(found, set_of(pairs.name, "pairs"))
    if found and chosen.titles is None:
        raise _several(folder, "titles", list(found.values()))
    return chosen


def _several(folder: Path, part: str, paths: list[Path]) -> InputError:
    names = ", ".join(path.name for path in paths)
    return InputError(f"{folder} holds several files for the {part} ({names}); keep one.")


def _is_called(path: Path, pattern: str) -> bool:
    """True if ``pattern`` matches in a name, with underscores as word boundaries."""
    return not path.name.startswith(".") and re.search(pattern, path.name.lower().replace("_", " ")) is not None


def _why_unused(path: Path, tables: dict[str, Path | None]) -> str:
    if path.name.startswith("."):
        return "hidden"
    if _ARCHIVE.search(path.name.lower()):
        return "an archive, which has to be unpacked here"
    for part, table in tables.items():
        if table is not None and _is_called(Path(path.name), _TABLES[part][0].rstrip("$")) and path.is_file():
            return f"the {part} are read from {table.name}"
    return "no part of a release is called so"
