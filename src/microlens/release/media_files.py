"""Media files of a release by item id, including nested folders; files that are not used are listed with a reason."""

import os
import stat
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microlens.release.ids import Id

NO_ITEM = "not named by the id of an item that has interactions"
_OTHER_KIND = "no kind of file that is read here"
_SECOND = "another file of the same item is read"
_HIDDEN = "hidden"
_NOT_A_FILE = "no file that can be opened"
_SEEN = "a folder that is read under another name"


@dataclass(frozen=True, kw_only=True)
class MediaFiles:
    """The files of one kind, by item id in ascending order, and the other files in their folders.

    ``names`` maps item ids to paths relative to the release folder. ``unused`` maps (suffix, reason) to the paths of
    files that are not used.
    """

    by_item: Mapping[Id, Path]
    names: Mapping[Id, str]
    unused: dict[tuple[str, str], list[str]]

    def name_within(self, item: Id) -> str:
        """The path of an item's file from the folder that holds the files of this kind."""
        return self.names[item].partition("/")[2]

    def of_items(self, items: Container[Id]) -> "MediaFiles":
        """The same with the files of these items only; the others are not used."""
        unused = {key: list(names) for key, names in self.unused.items()}
        for item, path in self.by_item.items():
            if item not in items:
                unused.setdefault((path.suffix.lower(), NO_ITEM), []).append(self.names[item])
        by_item = {item: path for item, path in self.by_item.items() if item in items}
        return MediaFiles(by_item=by_item, names=self.names, unused=unused)


def find_media(folders: Sequence[Path], suffixes: Sequence[str], *, text_ids: bool = False) -> MediaFiles:
    """The files with one of ``suffixes`` in ``folders`` and the folders within, by the item id that is their name.

    Where ids are no text, only names that are integers are taken. Of several files of an item the one is taken whose
    suffix comes first, then the one that lies in fewer folders, then the one with the shorter name, then the first by
    alphabet.
    """
    rank = {suffix: index for index, suffix in enumerate(suffixes)}
    unused: dict[tuple[str, str], list[str]] = {}
    candidates: list[tuple[int, int, int, str, Path]] = []
    for folder in folders:
        for path, depth, fault in _files_below(folder, rank):
            name, suffix = name_of(path.relative_to(folder.parent)), path.suffix.lower()
            if why := fault or _why_unused(path, suffix in rank, text_ids):
                unused.setdefault((suffix, why), []).append(name)
            else:
                candidates.append((rank[suffix], depth, len(path.name), name, path))
    by_item: dict[Any, Path] = {}
    names: dict[Any, str] = {}
    for *_, name, path in sorted(candidates):
        item = path.stem if text_ids else int(path.stem)
        if item in by_item:
            unused.setdefault((path.suffix.lower(), _SECOND), []).append(name)
        else:
            by_item[item], names[item] = path, name
    return MediaFiles(
        by_item=dict(sorted(by_item.items())),
        names=names,
        unused={key: sorted(names) for key, names in sorted(unused.items())},
    )


def name_of(path: Path) -> str:
    """A path as text that can be written; bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(path).decode(errors="replace")


def _why_unused(path: Path, has_suffix: bool, text_ids: bool) -> str | None:
    if path.name.startswith("."):
        return _HIDDEN
    if not has_suffix:
        return _OTHER_KIND
    digits = path.stem.removeprefix("-")
    return None if text_ids or (digits.isascii() and digits.isdecimal()) else NO_ITEM


def _files_below(folder: Path, suffixes: Container[str]) -> Iterator[tuple[Path, int, str | None]]:
    """Yield everything in ``folder`` and below, with its depth, and the reason if it cannot be read.

    Links are followed, but each folder is visited once, so that loops end. Folders are yielded only if they have one of
    ``suffixes``.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [(folder, 0)]
    while waiting:
        current, depth = waiting.pop()
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:
                yield current, depth, _SEEN
                continue
            paths = sorted(current.iterdir())
        except OSError as error:
            yield current, depth, f"a folder that cannot be opened: {error.strerror}"
            continue
        seen.add((status.st_dev, status.st_ino))
        for path in paths:
            mode = _mode(path)
            if stat.S_ISDIR(mode):
                waiting.append((path, depth + 1))
            if not stat.S_ISDIR(mode) or path.suffix.lower() in suffixes:
                yield path, depth, None if stat.S_ISREG(mode) else _NOT_A_FILE


def _mode(path: Path) -> int:
    """The file mode of ``path``, following links; 0 if it cannot be determined."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0
