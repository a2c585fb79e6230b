"""S3-Rec's text files, and SASRec's: users and items without times."""

from pathlib import Path

import polars as pl

from microlens.errors import InputError
from microlens.release.formats.tables import Tables, read_events
from microlens.release.text_files import lines_of, read_text, unpacked_name

ACCEPTED = "a user and the user's items separated by blanks in each line, oldest first"


def read_s3rec(path: Path) -> Tables:
    """Read lines of a user and the user's items, oldest first; lines of the same user are concatenated.

    S3-Rec (https://github.com/RUCAIBox/CIKM2020-S3Rec) has one line per user, SASRec
    (https://github.com/kang205/SASRec) one line per event.

    Raises:
        InputError: the file is empty, or a line has no item or an id of another type than the first.
    """
    text = read_text(path)
    lines = lines_of(text.content).with_columns(pl.col("text").str.strip_chars(" "))
    if lines.is_empty():
        raise InputError(f"{path} is empty; expected {ACCEPTED}.")
    parts = pl.col("text").str.splitn(" ", 2).struct.rename_fields(["user", "item"])
    rows = lines.select("line", parts.struct.unnest())
    lonely = rows.filter(pl.col("item").is_null()).head(1)
    for line, user in lonely.select("line", "user").iter_rows():
        raise InputError(f"{path}, line {line}: '{user}' has no items; expected {ACCEPTED}.")
    cells = rows.with_columns(pl.col("item").str.split(" ")).explode("item").filter(pl.col("item") != "")
    events, notes = read_events(text, cells, ACCEPTED)
    return Tables(name=Path(unpacked_name(path)).stem, files=(path,), events=events, notes=(*text.notes, *notes))
