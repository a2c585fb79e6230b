"""Recognising official files by their content, whatever they are called."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from microlens.download.failures import UnavailableError
from microlens.download.first_seen import check_content, recall
from microlens.download.registry import ReleaseSet, RemoteFile
from microlens.errors import InputError
from microlens.files.sent_instead import BEGINNING, sent_instead
from microlens.files.writing import sha256

_FIRST_LINES = 50
_ROWS_A_TAG = 10  # at least, on average; titles rarely repeat
_RECORD = r"^\d+[,\t]"
# In this order, the first expression that all first lines match tells the kind; a header may stand above.
_KINDS = (
    ("pairs", ".csv", r"\d+,\d+,\d{12,}"),
    ("pairs", ".tsv", r"\d+\t\d+( \d+)*"),
    ("likes", "", r"\d+\t\d+\t\d+"),
    ("comments", "", r"\d+\t\d+\t.*"),
    ("titles", "", r"\d+,.*"),
)
_COPY = re.compile(r"( \(\d+\)| ?- ?copy|_copy)$", re.IGNORECASE)


@dataclass(frozen=True)
class Match:
    """An official file that a file was recognised as; ``sha256`` is that of the file."""

    chosen: ReleaseSet
    file: RemoteFile
    sha256: str


def recognise(path: Path, sets: Sequence[ReleaseSet]) -> list[Match]:
    """The official files that ``path`` may be, of one set or of several; no media and zips.

    Checksums decide, where they are known; otherwise a file is recognised by its columns and the counts of its rows.
    """
    digest = sha256(path)
    exact = [Match(chosen, file, digest) for chosen, file in _all(sets) if _is_exactly(file, path, digest)]
    if exact:
        return exact
    return [Match(chosen, file, digest) for chosen, file in _by_rows(path, sets) if _may_be(file, path, digest)]


def item_in_name(path: Path) -> int | None:
    """The item whose id is the name of a file, which may end like the name of a copy: ``12 (1).mp4``."""
    stem = _COPY.sub("", path.stem.strip())
    return int(stem) if stem.isascii() and stem.isdecimal() else None


def beginning(path: Path) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(BEGINNING)


def is_media(content: bytes, suffix: str) -> bool:
    """True if the first bytes of a file are those of an mp4 or JPEG file, as its suffix says."""
    if suffix == ".mp4":
        return content[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide")
    return content.startswith(b"\xff\xd8\xff")


def _all(sets: Sequence[ReleaseSet]) -> Iterator[tuple[ReleaseSet, RemoteFile]]:
    return ((chosen, file) for chosen in sets for file in chosen.files)


def _is_exactly(file: RemoteFile, path: Path, digest: str) -> bool:
    seen = recall().get(file.address)
    is_known = file.sha256 is not None or file.git_blob is not None or (seen is not None and seen.sha256 == digest)
    return is_known and _may_be(file, path, digest)


def _may_be(file: RemoteFile, path: Path, digest: str) -> bool:
    """True if nothing that is known of an official file contradicts."""
    try:
        check_content(file, path, digest)
    except UnavailableError:
        return False
    return True


def _by_rows(path: Path, sets: Sequence[ReleaseSet]) -> Iterator[tuple[ReleaseSet, RemoteFile]]:
    from microlens.release.text_files import lines_of, read_text  # slow to import

    if sent_instead(beginning(path)):
        return
    try:
        lines = lines_of(read_text(path).content)["text"]
    except InputError:
        return
    kind, suffix = _kind_of(list(islice(lines, _FIRST_LINES)))
    rows = lines.str.contains(_RECORD).sum()
    if kind == "titles" and _ROWS_A_TAG * lines.str.replace(_RECORD, "").n_unique() <= rows:
        kind = "tags"
    counts = _counts(path) if kind == "pairs" else (rows,)
    for chosen, file in _all(sets):
        expected = (chosen.users, chosen.items, chosen.interactions) if kind == "pairs" else (chosen.items,)
        if file.kind == kind and file.path.endswith(suffix) and (kind == "comments" or counts == expected):
            yield chosen, file


def _kind_of(lines: list[str]) -> tuple[str, str]:
    """The kind of a table and the suffix of the official file, from its first lines; empty if it is none."""
    for kind, suffix, pattern in _KINDS:
        records = [re.fullmatch(pattern, line.strip()) for line in lines]
        if len(records) > 1 and all(records[1:]):
            return kind, suffix
    return "", ""


def _counts(path: Path) -> tuple[int, int, int] | None:
    """Users, items and interactions of a table of pairs."""
    from microlens.release.pairs import read_pairs

    try:
        events = read_pairs(path).events
    except InputError:
        return None
    return events["user"].n_unique(), events["item"].n_unique(), len(events)
