"""MovieLens' own files, in the three layouts in which GroupLens has published them.

Layouts: the README files at https://grouplens.org/datasets/movielens/.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from microlens.errors import InputError
from microlens.release.columns import ITEM, TAG, TIME, TITLE, USER, columns_by_name, note_of_ignored
from microlens.release.formats.tables import Tables, filled, read_cells, read_events
from microlens.release.item_table import Form, read_rows
from microlens.release.text_files import TextFile, beside, first_line, read_text, shown, unpacked_name

ACCEPTED = (
    "user, item, rating and timestamp in each row, separated by tabs (u.data), '::' (ratings.dat) or, under the header "
    "userId,movieId,rating,timestamp, commas (ratings.csv)"
)
_RATINGS = ("user", "item", "rating", "timestamp")
_OLD_ENCODING = "latin-1"
_GENRES = "u.genre"
_NO_GENRE = ("unknown", "(no genres listed)")
_MOVIES = Form(columns={"item": ITEM, "title": TITLE, "tag": TAG}, keys=("item",), text="title")
_BEFORE_GENRES = ("item", "title", "release date", "video release date", "address")


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How the ratings are separated, and the file of films beside them with its reader (columns item, title, tag)."""

    separator: str
    ratings: str
    films: str
    read_films: Callable[[Path], tuple[pl.DataFrame, list[str]]]


def read_movielens(path: Path) -> Tables:
    """Read a file of ratings (``u.data``, ``ratings.dat`` or ``ratings.csv``) and the file of films beside it.

    The tag of a film is the first of its genres. Every rating is an interaction.

    Raises:
        InputError: a file is empty, or a row has a wrong number of columns or a value that cannot be read.
    """
    text = read_text(path)
    found = first_line(text.content)
    if found is None:
        raise InputError(f"{path} is empty; expected {ACCEPTED}.")
    layout = _layout(found[2])
    ratings, unread = _read_ratings(text, layout, found[1], found[2])
    events, notes = read_events(text, ratings, ACCEPTED)
    written = unpacked_name(path)
    name = path.resolve().parent.name if written == layout.ratings else Path(written).stem
    films = beside(path, layout.films)
    if films is None:
        return Tables(name=name, files=(path,), events=events, notes=(*text.notes, *notes, *unread))
    table, more = layout.read_films(films)
    return Tables(
        name=name,
        files=(path, films, *([genres] if (genres := beside(path, _GENRES)) else [])),
        events=events,
        titles=filled(table, "title"),
        tags=filled(table.filter(~pl.col("tag").is_in(_NO_GENRE)), "tag"),
        notes=(*text.notes, *notes, *unread, *more),
    )


def _layout(line: str) -> _Layout:
    return next((layout for layout in _LAYOUTS if layout.separator in line), _LAYOUTS[-1])


def _read_ratings(text: TextFile, layout: _Layout, first: int, line: str) -> tuple[pl.DataFrame, list[str]]:
    """The cells of all ratings, and a note on columns that are not read."""
    if layout.separator != ",":
        return read_cells(text, layout.separator, _RATINGS, ACCEPTED, skip_lines=first - 1).drop("rating"), []
    columns = columns_by_name(line, {"user": USER, "item": ITEM, "timestamp": TIME})
    if columns is None:
        raise InputError(f"{text.path}, line {first}: the columns are '{shown(line)}'; expected {ACCEPTED}.")
    names = [str(place) for place in range(columns.width)]
    for name, place in columns.positions.items():
        names[place] = name
    unquoted = TextFile(path=text.path, content=text.content.replace(b'"', b""))  # the values are numbers
    cells = read_cells(unquoted, columns.separator, names, ACCEPTED, skip_lines=first)
    unread = [name for name in columns.ignored if name != "rating"]  # which no format keeps
    return cells.select("line", *columns.positions), note_of_ignored(text.path.name, unread)


def _read_films_with_flags(path: Path) -> tuple[pl.DataFrame, list[str]]:
    """Films of ``u.item``, whose genres are columns of 0 and 1 in the order of ``u.genre``."""
    text = read_text(path, _OLD_ENCODING)
    genres = _genres(beside(path, _GENRES))
    found = first_line(text.content)
    width = found[2].count("|") + 1 if found else 0
    flags = genres if genres and width == len(_BEFORE_GENRES) + len(genres) else None
    names = [*_BEFORE_GENRES, *(f"genre {place}" for place in range(width - len(_BEFORE_GENRES)))]
    accepted = "item|title|release date|video release date|address, and 0 or 1 for each genre of u.genre"
    if genres and flags is None:
        raise InputError(f"{path}, line {found[1] if found else 1}: {width} columns; expected {accepted}.")
    cells = read_cells(text, "|", names, accepted)
    first = [pl.when(pl.col(f"genre {place}") == "1").then(pl.lit(genre)) for place, genre in enumerate(flags or ())]
    tag = pl.coalesce(first) if first else pl.lit(None, pl.String)
    return cells.select("item", "title", tag.alias("tag")), text.notes


def _genres(path: Path | None) -> list[str]:
    """The genres in ``u.genre``, lines such as Action|1, in order of their numbers; empty if there is no such file."""
    if path is None:
        return []
    text, accepted = read_text(path, _OLD_ENCODING), "lines such as Action|1"
    cells = read_cells(text, "|", ("genre", "number"), accepted)
    numbers = cells["number"].cast(pl.Int64, strict=False)
    if sorted(numbers.fill_null(-1).to_list()) != list(range(len(numbers))):
        raise InputError(f"{path}: the genres are not numbered 0, 1, ...; expected {accepted}.")
    return cells["genre"].gather(numbers.arg_sort()).to_list()


def _read_films_of_dat(path: Path) -> tuple[pl.DataFrame, list[str]]:
    text = read_text(path, _OLD_ENCODING)
    cells = read_cells(text, "::", ("item", "title", "tag"), "item::title::genre|genre|... in each row")
    return _with_first_genre(cells), text.notes


def _read_films_of_csv(path: Path) -> tuple[pl.DataFrame, list[str]]:
    text = read_text(path, _OLD_ENCODING)
    rows = read_rows(text, _MOVIES)
    for line, why in rows.faults:
        raise InputError(f"{path}, line {line}: {why}; expected movieId,title,genres in each row.")
    return _with_first_genre(rows.table), [*text.notes, *rows.notes]


def _with_first_genre(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(pl.col("tag").str.split("|").list.first())


_LAYOUTS = (
    _Layout(separator="::", ratings="ratings.dat", films="movies.dat", read_films=_read_films_of_dat),
    _Layout(separator="\t", ratings="u.data", films="u.item", read_films=_read_films_with_flags),
    _Layout(separator=",", ratings="ratings.csv", films="movies.csv", read_films=_read_films_of_csv),
)
