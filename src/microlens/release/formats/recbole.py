"""RecBole's atomic files: tables separated by tabs whose header has the type of each column.

Format: https://recbole.io/docs/user_guide/data/atomic_files.html.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from microlens.errors import InputError
from microlens.release.columns import ITEM, LIKES, TAG, TIME, TITLE, USER, VIEWS
from microlens.release.formats.tables import Tables, counts, filled, read_cells, read_events, text_ids_of
from microlens.release.given_split import PARTS
from microlens.release.ids import TextIds
from microlens.release.text_files import TextFile, beside, first_line, read_text, shown, unpacked_name

ACCEPTED = (
    "a header such as user_id:token TAB item_id:token TAB timestamp:float with the types token, token_seq, float and "
    "float_seq, above rows separated by tabs"
)
_COLUMN = re.compile(r"\s*(?P<name>[^:\s][^:]*):(?P<type>token|token_seq|float|float_seq)\s*")
_PART = re.compile(r"\.(?P<part>train|valid|test)\.inter$")


@dataclass(frozen=True, kw_only=True)
class _Header:
    """The names and types of the columns; ``line`` is the number of the header's line."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    line: int

    def find(self, wanted: Sequence[str], types: Sequence[str]) -> int | None:
        """The position of the column of one of ``types`` with the first of the ``wanted`` names."""
        plain = [re.sub(r"[\W_]", "", name.lower()) for name in self.names]
        for name in wanted:
            for position, (own, of_type) in enumerate(zip(plain, self.types, strict=True)):
                if own == name and of_type in types:
                    return position
        return None

    def key(self, wanted: Sequence[str], other: int | None = None) -> int | None:
        """The position of an id column: by name, or else the first column of type token except ``other``."""
        named = self.find(wanted, ("token",))
        tokens = (place for place, of_type in enumerate(self.types) if of_type == "token" and place != other)
        return next(tokens, None) if named is None else named


def read_recbole(path: Path) -> Tables:
    """Read a ``.inter`` file and, if there is one, the ``.item`` file of the same name, each plain or packed (``.gz``).

    If ``NAME.train.inter``, ``NAME.valid.inter`` and ``NAME.test.inter`` are given by the first of them, they are read
    together, as a split.

    Users and items are the columns called so (``user_id``, ``item_id``, ...) or else the first two of type token. The
    time is a column such as ``timestamp``; without one, each user's rows are in order of time. Every row is an
    interaction, whatever its rating.

    Raises:
        InputError: a file is empty, its header has no types or lacks a column, or a row cannot be read.
    """
    parts = parts_beside(path)
    files: tuple[Path, ...]
    if parts is None:
        events, notes = _read_events(path)
        name = Path(unpacked_name(path)).stem
    else:
        events, notes = _read_parts(parts)
        name = _PART.sub("", unpacked_name(path))
    files = parts or (path,)
    described = beside(path, f"{name}.item")
    if described is None:
        return Tables(name=name, files=files, events=events, notes=notes)
    items = _read_items(described)
    return replace(items, name=name, files=(*files, described), events=events, notes=(*notes, *items.notes))


def parts_beside(path: Path) -> tuple[Path, ...] | None:
    """The files of a split (train, valid, test) if ``path`` is its train part, else None."""
    written = unpacked_name(path)
    found = _PART.search(written)
    if found is None or found["part"] != PARTS[0]:
        return None
    others = [beside(path, _PART.sub(f".{part}.inter", written)) for part in PARTS[1:]]
    paths = (path, *(one for one in others if one is not None))
    return paths if len(paths) == len(PARTS) else None


def _read_parts(paths: tuple[Path, ...]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The events of the three parts of a split, train first; ids are of the type of the first one."""
    tables: list[pl.DataFrame] = []
    notes: list[str] = []
    for number, path in enumerate(paths):
        events, more = _read_events(path, text_ids_of(tables[0]) if tables else None)
        if tables and ("timestamp" in events.columns) != ("timestamp" in tables[0].columns):
            raise InputError(f"{path} and {paths[0]} do not both have times; expected the same columns in each part.")
        tables.append(events.with_columns(pl.lit(number, pl.Int8).alias("split")))
        notes += more
    return pl.concat(tables), tuple(notes)


def _read_events(path: Path, text_ids: TextIds | None = None) -> tuple[pl.DataFrame, tuple[str, ...]]:
    text = read_text(path)
    header = _header(text)
    item = header.find(ITEM, ("token",))
    user = header.key(USER, item)
    item = header.key(ITEM, user) if item is None else item
    if user is None or item is None:
        raise InputError(
            f"{path}, line {header.line}: no columns of type token for users and items; expected {ACCEPTED}."
        )
    lists = [name for name, of_type in zip(header.names, header.types, strict=True) if name.endswith("_list")]
    if lists:
        raise InputError(
            f"{path}, line {header.line}: '{shown(lists[0])}' holds sequences of earlier items; expected one "
            "interaction per row, as in the dataset before it was made into sequences."
        )
    positions = {"user": user, "item": item, "timestamp": header.find(TIME, ("float", "token"))}
    events, notes = read_events(text, _read(text, header, positions), ACCEPTED, text_ids)
    return events, (*text.notes, *notes, *_note(path, header, positions))


def _header(text: TextFile) -> _Header:
    found = first_line(text.content)
    if found is None:
        raise InputError(f"{text.path} is empty; expected {ACCEPTED}.")
    _, line, written = found
    columns = []
    for cell in written.split("\t"):
        column = _COLUMN.fullmatch(cell)
        if column is None:
            raise InputError(
                f"{text.path}, line {line}: '{shown(cell)}' is not a name and a type; expected {ACCEPTED}."
            )
        columns.append(column)
    return _Header(
        names=tuple(column["name"] for column in columns), types=tuple(column["type"] for column in columns), line=line
    )


def _read(text: TextFile, header: _Header, positions: dict[str, int | None]) -> pl.DataFrame:
    """The column ``line``, and the columns of ``positions`` that exist."""
    cells = read_cells(text, "\t", [str(place) for place in range(len(header.names))], ACCEPTED, skip_lines=header.line)
    return cells.select(
        "line", *(pl.col(str(place)).alias(name) for name, place in positions.items() if place is not None)
    )


def _read_items(path: Path) -> Tables:
    """Titles, tags, likes and views of a ``.item`` file, without events; the tag is the first of a sequence."""
    text = read_text(path)
    header = _header(text)
    item = header.key(ITEM)
    if item is None:
        raise InputError(f"{path}, line {header.line}: no column of type token for items; expected {ACCEPTED}.")
    title, tag = (header.find(names, ("token_seq", "token")) for names in (TITLE, TAG))
    likes, views = (header.find(names, ("float",)) for names in (LIKES, VIEWS))
    positions = {"item": item, "title": title, "tag": tag, "likes": likes, "views": views}
    cells = _read(text, header, positions)
    if tag is not None and header.types[tag] == "token_seq":
        cells = cells.with_columns(pl.col("tag").str.strip_chars().str.split(" ").list.first())
    titles, tags = (filled(cells, name) if name in cells.columns else None for name in ("title", "tag"))
    return Tables(
        name=Path(unpacked_name(path)).stem,
        files=(path,),
        events=pl.DataFrame(),
        titles=titles,
        tags=tags,
        likes=counts(cells),
        notes=(*text.notes, *_note(path, header, positions)),
    )


def _note(path: Path, header: _Header, positions: dict[str, int | None]) -> list[str]:
    unread = [shown(name, 20) for place, name in enumerate(header.names) if place not in positions.values()]
    return [f"{path.name}: columns not read: {', '.join(unread)}"] if unread else []
