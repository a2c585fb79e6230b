"""Finding zips among files whose names need not be the official ones."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from zipfile import ZipInfo

from microlens.download.failures import UnavailableError
from microlens.download.split_zip import LONGEST_END, LocalParts, end_of_zip, parse_directory, read_directory_bytes

_HEADER, _HEADER_SIZE = b"PK\x03\x04", 30
_ENTRIES_COMPARED = 3


def find_zips(paths: Sequence[Path]) -> list[LocalParts]:
    """The zips among files; parts of a split zip are found by what the directory says of them."""
    zips = []
    lasts = {path: number for path in paths if (number := _last_part(path)) is not None}
    others = [path for path in paths if path not in lasts]
    for path, number in lasts.items():
        alone = LocalParts((*[None] * number, path))
        try:
            members = parse_directory(read_directory_bytes(alone), alone.sizes) if number else []
        except UnavailableError:
            continue
        parts = [_find_part(part, [member.info for member in members], others) for part in range(number)]
        zips.append(LocalParts((*parts, path)))
    return zips


def _last_part(path: Path) -> int | None:
    """The number of a file as a part of a zip, from 0, if it is the last part."""
    with path.open("rb") as file:
        file.seek(-min(LONGEST_END, path.stat().st_size), 2)
        try:
            return end_of_zip(file.read()).last
        except UnavailableError:
            return None


def _find_part(part: int, entries: Iterable[ZipInfo], paths: Sequence[Path]) -> Path | None:
    """The file that holds members where the directory says that this part does; else the one with the part's suffix."""
    suffix = f".z{part + 1:02}"
    likely = sorted(paths, key=lambda path: path.suffix.lower() != suffix)
    inside = [entry for entry in entries if entry.volume == part][:_ENTRIES_COMPARED]
    if not inside:  # one member fills it
        return likely[0] if likely and likely[0].suffix.lower() == suffix else None
    return next((path for path in likely if all(_begins_at(entry, path) for entry in inside)), None)


def _begins_at(entry: ZipInfo, path: Path) -> bool:
    name = entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437")
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        header = file.read(_HEADER_SIZE + len(name))
    return header.startswith(_HEADER) and header.endswith(name)
