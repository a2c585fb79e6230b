"""Media files of a release by item id, including nested folders; files that are not used are listed with a reason."""

import os
import stat
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from microlens.files.addresses import StoredFile, files_below
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
    files that are not used. In a release at an address, ``remote`` has the files, and ``by_item`` only their names.
    """

    by_item: Mapping[Id, Path]
    names: Mapping[Id, str]
    unused: dict[tuple[str, str], list[str]]
    remote: Mapping[Id, StoredFile] = field(default_factory=dict)

    def name_within(self, item: Id) -> str:
        """The path of an item's file from the folder that holds the files of this kind."""
        return self.names[item].partition("/")[2]

    def size_of(self, item: Id) -> int:
        """The size of an item's file in bytes; 0 for a missing file, whose path may come from a data frame."""
        if item in self.remote:
            return self.remote[item].bytes
        try:
            return self.by_item[item].stat().st_size
        except OSError:
            return 0

    def of_items(self, items: Container[Id]) -> "MediaFiles":
        """The same with the files of these items only; the others are not used."""
        unused = {key: list(names) for key, names in self.unused.items()}
        for item, path in self.by_item.items():
            if item not in items:
                unused.setdefault((path.suffix.lower(), NO_ITEM), []).append(self.names[item])
        by_item = {item: path for item, path in self.by_item.items() if item in items}
        return replace(self, by_item=by_item, unused=unused)


def find_media(folders: Sequence[Path], suffixes: Sequence[str], *, text_ids: bool = False) -> MediaFiles:
    """The files with one of ``suffixes`` in ``folders`` and the folders within, by the item id that is their name.

    Where ids are no text, only names that are integers are taken. Of several files of an item the one is taken whose
    suffix comes first, then the one that lies in fewer folders, then the one with the shorter name, then the first by
    alphabet.
    """
    found = (
        _Found(name_of(path.relative_to(folder.parent)), path, depth, fault)
        for folder in folders
        for path, depth, fault in _files_below(folder, suffixes)
    )
    return _chosen(found, suffixes, text_ids)


def find_remote_media(folders: Sequence[str], suffixes: Sequence[str], *, text_ids: bool = False) -> MediaFiles:
    """The same for the folders at addresses."""
    found = []
    for folder in folders:
        for within, file in files_below(folder):
            name = f"{folder.rpartition('/')[2]}/{within}"
            found.append(_Found(name, Path(name), within.count("/"), None, file))
    return _chosen(found, suffixes, text_ids)


@dataclass(frozen=True)
class _Found:
    """A file in a folder of media: its name within the release, the folders it is in, and why it cannot be read."""

    name: str
    path: Path
    depth: int
    fault: str | None
    remote: StoredFile | None = None


def _chosen(found: Iterable[_Found], suffixes: Sequence[str], text_ids: bool) -> MediaFiles:
    """Choose the file of each item."""
    rank = {suffix: index for index, suffix in enumerate(suffixes)}
    unused: dict[tuple[str, str], list[str]] = {}
    candidates = []
    for file in found:
        suffix = file.path.suffix.lower()
        if why := file.fault or _why_unused(file.path, suffix in rank, text_ids):
            unused.setdefault((suffix, why), []).append(file.name)
        else:
            candidates.append((rank[suffix], file.depth, len(file.path.name), file.name, file))
    by_item: dict[Any, _Found] = {}
    for *_, file in sorted(candidates, key=lambda candidate: candidate[:4]):
        item = file.path.stem if text_ids else int(file.path.stem)
        if by_item.setdefault(item, file) is not file:
            unused.setdefault((file.path.suffix.lower(), _SECOND), []).append(file.name)
    return MediaFiles(
        by_item={item: by_item[item].path for item in sorted(by_item)},
        names={item: file.name for item, file in by_item.items()},
        unused={key: sorted(names) for key, names in sorted(unused.items())},
        remote={item: file.remote for item, file in by_item.items() if file.remote},
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
