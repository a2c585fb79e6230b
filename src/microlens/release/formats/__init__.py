"""Formats of other packages that can be converted to a release. A format is a reader and its entry in ``FORMATS``."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from microlens.release.formats.movielens import read_movielens
from microlens.release.formats.recbole import read_recbole
from microlens.release.formats.s3rec import read_s3rec
from microlens.release.formats.tables import Tables
from microlens.release.text_files import TextFile, beginning_of, first_line

_INTEGER = r"-?\d+"
_DECIMAL = r"\d+(\.\d*)?"
_RECBOLE = r"[^:\t]+:(token|float)(_seq)?"


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of datasets.

    Args:
        accepted: description for messages.
        read: reads the dataset whose file of interactions is given.
        files: glob patterns of this file in a folder, in lower case.
        first_line: regular expression of its first line, for files of any name.
    """

    accepted: str
    read: Callable[[Path], Tables]
    files: tuple[str, ...]
    first_line: str

    def is_named(self, path: Path) -> bool:
        """True if the name of ``path`` tells that it is a file of this format."""
        return path.is_file() and any(Path(path.name.lower()).match(pattern) for pattern in self.files)


FORMATS: dict[str, Format] = {
    "recbole": Format(
        accepted="RecBole's atomic files (NAME.inter or its folder)",
        read=read_recbole,
        files=("*.inter",),
        first_line=rf"{_RECBOLE}(\t{_RECBOLE})+\s*",
    ),
    "s3rec": Format(
        accepted="S3Rec's or SASRec's text file (user item item ...)",
        read=read_s3rec,
        files=(),
        first_line=rf"{_INTEGER}( {_INTEGER})+\s*",
    ),
    "movielens": Format(
        accepted="MovieLens' own files (the folder of u.data, ratings.dat or ratings.csv, or that file)",
        read=read_movielens,
        files=("u.data", "ratings.dat", "ratings.csv"),
        first_line=(rf"userId,movieId,rating,timestamp\s*|{_INTEGER}(\t|::){_INTEGER}\1{_DECIMAL}\1{_INTEGER}\s*"),
    ),
}


def format_of(path: Path) -> str | None:
    """The name of the format of a file of interactions, recognised by its name or its first line; None if unknown."""
    named = next((name for name, one in FORMATS.items() if one.is_named(path)), None)
    return named or format_of_line(beginning_of(path))


def format_of_line(line: str) -> str | None:
    """The name of the format of a file with this first line; None if unknown."""
    return next((name for name, one in FORMATS.items() if re.fullmatch(one.first_line, line)), None)


def hint(names: Iterable[str | None]) -> str:
    """The end of a message about files in the formats ``names``; empty if none is known."""
    found = next((name for name in names if name is not None), None)
    return f"; microlens data convert reads {FORMATS[found].accepted}" if found else ""


def hint_for(text: TextFile) -> str:
    """The end of a message about a table; empty if its first line is in no known format."""
    found = first_line(text.content)
    return hint([format_of_line(found[2])]) if found else ""
