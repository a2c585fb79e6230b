"""Finding the columns of a text table by common names, and reading their values as integers."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from microlens.release.text_files import shown

SEPARATORS = (",", "\t", ";", "|")

USER = ("user", "userid", "uid", "useridx", "userno", "usertoken", "useridtoken")
ITEM = (
    "item", "itemid", "iid", "itemidx", "itemno", "itemtoken", "itemidtoken", "video", "videoid", "vid", "movie",
    "movieid", "news", "newsid", "photo", "photoid", "feed", "feedid", "product", "productid", "asin", "article",
    "articleid", "content", "contentid", "id",
)  # fmt: skip
TIME = (
    "timestamp", "timestampms", "timestamps", "timestampfloat", "time", "timems", "ts", "unixtime", "unixtimestamp",
    "datetime", "date", "eventtime", "createdat", "watchtime", "clicktime",
)  # fmt: skip
TITLE = ("title", "titleen", "titles", "name", "itemname", "videotitle", "movietitle", "caption", "text", "description")
TAG = ("tag", "tags", "category", "categories", "genre", "genres", "label", "class", "topic")
LIKES = ("likes", "like", "likecount", "likescount", "numlikes", "likenum", "diggcount")
VIEWS = ("views", "view", "viewcount", "viewscount", "numviews", "viewnum", "plays", "playcount")
COMMENT = ("comment", "comments", "commenten", "text", "content", "review", "body")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table: ``positions`` of the columns that are read, by content; ``width`` is the number of all.

    ``ignored`` are the names of the other columns; ``header`` is True if the first line is a header.
    """

    separator: str
    width: int
    positions: dict[str, int]
    header: bool
    ignored: tuple[str, ...] = ()

    def note(self, name: str) -> list[str]:
        """A note that names the ignored columns, if any."""
        return note_of_ignored(name, self.ignored)


def note_of_ignored(name: str, columns: Sequence[str]) -> list[str]:
    """A note that names the ``columns`` of the table ``name`` that are not read, if any."""
    if not columns:
        return []
    names = ", ".join(shown(column, 20) or "without a name" for column in columns[:5])
    more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
    return [f"{name}: columns not read: {names}{more}"]


def split_line(line: str, separator: str) -> list[str]:
    """Split one line into cells, without quotes and surrounding blanks."""
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True), [])
    except csv.Error:
        cells = line.split(separator)
    return [cell.strip() for cell in cells]


def columns_by_name(
    line: str, wanted: Mapping[str, Sequence[str]], required: Sequence[str] | None = None
) -> Columns | None:
    """Find the columns in a header; None if ``line`` is not a header with all ``required`` columns.

    Args:
        line: first line of a table.
        wanted: accepted names of each column, most likely first, in lower case without other characters.
        required: columns that must exist; all of ``wanted`` by default.
    """
    for separator in SEPARATORS:
        names = split_line(line, separator)
        positions = positions_by_name(names, wanted)
        if all(column in positions for column in (wanted if required is None else required)):
            ignored = tuple(name for position, name in enumerate(names) if position not in positions.values())
            return Columns(separator=separator, width=len(names), positions=positions, header=True, ignored=ignored)
    return None


def positions_by_name(names: Sequence[str], wanted: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The positions among ``names`` of those columns of ``wanted`` that are found; see :func:`columns_by_name`."""
    plain = [re.sub(r"[\W_]", "", name.lower()) for name in names]
    positions: dict[str, int] = {}
    for column, accepted in wanted.items():
        free = [name for name in accepted if name in plain and plain.index(name) not in positions.values()]
        if free:
            positions[column] = plain.index(free[0])
    return positions


def likeliest_separator(line: str) -> str:
    """The separator that splits ``line`` into the most cells."""
    return max(SEPARATORS, key=line.count)


def integers(text: pl.Expr) -> pl.Expr:
    """Text as 64-bit integers, null if invalid; ``1.0``, as in a table of decimals, is valid."""
    return text.str.strip_chars().str.replace(r"^([+-]?\d+)\.0*$", "${1}").cast(pl.Int64, strict=False)


def why_no_integer(text: str | None) -> str:
    """The reason why :func:`integers` rejects ``text``."""
    text = (text or "").strip()
    beyond = re.fullmatch(r"[+-]?[0-9]+(\.0*)?", text)
    return f"'{shown(text)}' is {'beyond 64-bit integers' if beyond else 'not an integer'}"
