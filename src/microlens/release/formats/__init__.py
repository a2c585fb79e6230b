"""Formats of other packages that can be converted to a release. A format is a reader and its entry in ``FORMATS``."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from microlens.release.formats.huggingface import STATES, read_huggingface
from microlens.release.formats.mmrec import read_mmrec
from microlens.release.formats.movielens import read_movielens
from microlens.release.formats.parquet import INTERACTIONS, read_parquet
from microlens.release.formats.recbole import parts_beside, read_recbole
from microlens.release.formats.s3rec import read_s3rec
from microlens.release.formats.tables import Tables
from microlens.release.text_files import TextFile, beginning_of, first_line, unpacked_name

_INTEGER = r"-?\d+"
_DECIMAL = r"\d+(\.\d*)?"
_PLAIN = r"[^:\t]+"
_RECBOLE = r"[^:\t]+:(token|float)(_seq)?"


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of datasets.

    Args:
        accepted: description for messages.
        read: reads the dataset whose file of interactions is given.
        files: glob patterns of this file in a folder, in lower case; a text file may also be packed (``.gz``).
        first_line: regular expression of its first line, for files of any name.
        needs_line: a file with the right name is of this format only if its first line is, too.
        is_text: the file is a text file.
    """

    accepted: str
    read: Callable[[Path], Tables]
    files: tuple[str, ...]
    first_line: str = r"(?!)"
    needs_line: bool = False
    is_text: bool = True

    def is_named(self, path: Path) -> bool:
        """True if the name of ``path`` tells that it is a file of this format."""
        name = Path((unpacked_name(path) if self.is_text else path.name).lower())
        named = path.is_file() and any(name.match(pattern) for pattern in self.files)
        return named and (not self.needs_line or re.fullmatch(self.first_line, beginning_of(path)) is not None)


FORMATS: dict[str, Format] = {
    "mmrec": Format(
        accepted="MMRec's interactions (NAME.inter with the column x_label, or its folder)",
        read=read_mmrec,
        files=("*.inter",),
        first_line=rf"(?=(.*\t)?x_label(\t|\s*$)){_PLAIN}(\t{_PLAIN})+\s*",
        needs_line=True,
    ),
    "recbole": Format(
        accepted="RecBole's atomic files (NAME.inter, NAME.train.inter or their folder)",
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
    "parquet": Format(
        accepted="Parquet tables (a file of interactions, or the folder of interactions.parquet)",
        read=read_parquet,
        files=(INTERACTIONS,),
        is_text=False,
    ),
    "huggingface": Format(
        accepted="datasets that the library datasets stored (the folder)",
        read=read_huggingface,
        files=STATES,
        is_text=False,
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
    named = named_format(path)
    if named is None and path.suffix.lower() == ".parquet":
        return "parquet"
    return named or format_of_line(beginning_of(path))


def named_format(path: Path) -> str | None:
    """The name of the first format whose files of interactions are called like ``path``."""
    return next((name for name, one in FORMATS.items() if one.is_named(path)), None)


def interactions_in(folder: Path, name: str | None = None) -> list[tuple[Path, str]]:
    """The files of interactions in ``folder``, with their formats; only of the format ``name``, if one is given."""
    inner = folder / "interactions"
    entries = sorted([*folder.iterdir(), *(inner.iterdir() if inner.is_dir() else [])])
    named = [(path, found) for path in entries if (found := named_format(path)) is not None]
    chosen = [(path, found) for path, found in named if name in (None, found)]
    parts = {part for path, found in chosen if found == "recbole" for part in (parts_beside(path) or ())[1:]}
    plain = {path for path, _ in chosen if unpacked_name(path) == path.name}
    # Of a file and its packed copy, the file is read.
    return [
        (path, found)
        for path, found in chosen
        if path not in parts and (path in plain or path.with_name(unpacked_name(path)) not in plain)
    ]


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
