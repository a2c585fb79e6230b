"""Reading the interactions of a release: ``*pairs.csv`` and ``*pairs.tsv``."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from microlens.errors import InputError

COLUMNS = ("user", "item", "timestamp")
_CSV_ACCEPTED = "three integers a line: user,item,timestamp"
_TSV_ACCEPTED = "a user, a tab, and the user's items separated by single spaces, all integers"


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Events as they lie in a release, sorted by user, then time, then place in the file.

    ``events`` has the integer columns user, item and timestamp (milliseconds; the place in the user's line for a tsv
    file). ``repeated`` counts the later repeats of a (user, item) pair, which were dropped; ``out_of_order`` counts the
    events that stood before an earlier one of the same user in the file.
    """

    events: pl.DataFrame
    repeated: int
    out_of_order: int


def read_pairs(path: Path) -> Pairs:
    """Read a pairs file, csv with timestamps or tsv in time order.

    Raises:
        InputError: the file is empty, or a line has the wrong number of columns or something that is not an integer.
    """
    first = _first_line(path)
    frame = _read_tsv(path) if path.suffix == ".tsv" else _read_csv(path, first)
    if frame.is_empty():
        raise InputError(f"{path} holds no interactions; expected {_accepted(path)}.")
    return _in_time_order(frame)


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            if line.strip():
                return line.strip()
    raise InputError(f"{path} is empty; expected {_accepted(path)}.")


def _accepted(path: Path) -> str:
    return _TSV_ACCEPTED if path.suffix == ".tsv" else _CSV_ACCEPTED


def _read_csv(path: Path, first: str) -> pl.DataFrame:
    names = [name.strip().strip('"').lower() for name in first.split(",")]
    has_header = not all(_is_integer(name) for name in names)
    if has_header and sorted(names) != sorted(COLUMNS):
        raise InputError(f"{path}, line 1: the columns are '{first}'; expected {','.join(COLUMNS)}.")
    order = names if has_header else list(COLUMNS)
    frame = pl.DataFrame(schema=COLUMNS)
    try:
        frame = pl.read_csv(
            path,
            has_header=has_header,
            new_columns=order,
            schema_overrides=[pl.Int64] * 3,
            glob=False,
            raise_if_empty=False,
        )
        readable = frame.width == len(COLUMNS) and not frame.null_count().sum_horizontal().item()
    except pl.exceptions.PolarsError:
        readable = False
    if not readable:
        _raise_first_fault(path, has_header)
        frame = frame.drop_nulls()  # nothing but blank lines
    return frame.select(COLUMNS)


def _read_tsv(path: Path) -> pl.DataFrame:
    frame = pl.DataFrame(schema=COLUMNS)
    try:
        lines = pl.read_csv(
            path,
            has_header=False,
            separator="\t",
            quote_char=None,
            new_columns=["user", "items"],
            schema_overrides=[pl.String] * 2,
            glob=False,
        )
        frame = (
            lines.select(
                pl.col("user").str.strip_chars().cast(pl.Int64),
                pl.col("items").str.strip_chars().str.split(" ").cast(pl.List(pl.Int64)).alias("item"),
            )
            .with_columns(pl.int_ranges(pl.col("item").list.len()).alias("timestamp"))
            .explode("item", "timestamp")
        )
        readable = lines.width == 2 and not frame.null_count().sum_horizontal().item()
    except pl.exceptions.PolarsError:
        readable = False
    if not readable:
        _raise_first_fault(path, has_header=False)
        frame = frame.drop_nulls()
    return frame


def _raise_first_fault(path: Path, has_header: bool) -> None:
    """Name the line that the fast reader could not take; returns if there are only blank lines to complain of."""
    tsv = path.suffix == ".tsv"
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            text = line.strip("\r\n")
            if (has_header and number == 1) or not text.strip():
                continue
            cells = text.split("\t") if tsv else text.split(",")
            width = 2 if tsv else len(COLUMNS)
            if len(cells) != width:
                found = f"{len(cells)} column{'s' if len(cells) != 1 else ''}"
                raise InputError(f"{path}, line {number}: {found} instead of {width}; expected {_accepted(path)}.")
            values = [cells[0], *cells[1].strip().split(" ")] if tsv else [cell.strip(' "') for cell in cells]
            wrong = next((value for value in values if not _is_integer(value)), None)
            if wrong is not None:
                raise InputError(f"{path}, line {number}: '{wrong}' is not an integer; expected {_accepted(path)}.")


def _is_integer(text: str) -> bool:
    digits = text.strip().removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) < 19


def _in_time_order(frame: pl.DataFrame) -> Pairs:
    backwards = (pl.col("timestamp").diff() < 0) & (pl.col("user").diff() == 0)
    by_user = frame.sort("user", maintain_order=True)
    out_of_order = int(by_user.select(backwards.sum()).item())
    ordered = by_user.sort("user", "timestamp", maintain_order=True) if out_of_order else by_user
    events = ordered.unique(["user", "item"], keep="first", maintain_order=True)
    return Pairs(events=events, repeated=len(ordered) - len(events), out_of_order=out_of_order)
