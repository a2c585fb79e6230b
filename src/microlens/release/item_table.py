"""Reading tables of item metadata with or without a header, with columns in any order, and with malformed rows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from microlens.errors import InputError
from microlens.release.columns import SEPARATORS, Columns, columns_by_name, split_line
from microlens.release.records import cells_of, joined_records
from microlens.release.text_files import TextFile, lines_of, shown

_FIRST_LINES = 20  # lines that must contain the header or the first record
_INTEGER = r' *"? *[+-]?\d+(?:\.0*)? *"? *'
_TEXT = r' *(?:"[^"\n]+"|[^",;|\t\n]+) *'


@dataclass(frozen=True, kw_only=True)
class Form:
    """Schema of a kind of table: the accepted names of its columns, in their order without a header.

    ``keys`` are the id columns; those in ``text_keys`` are text, the others integers. ``text`` is the column of free
    text.
    """

    columns: Mapping[str, Sequence[str]]
    keys: tuple[str, ...]
    text: str | None = None
    text_keys: frozenset[str] = frozenset()

    def pattern(self, key: str) -> str:
        """A regular expression for values of the column ``key``."""
        return _TEXT if key in self.text_keys else _INTEGER

    @property
    def accepted(self) -> str:
        """Description of the form for messages."""
        return f"the columns {', '.join(self.columns)}, in this order or under a header that names them"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The values of a table: a column ``line``, and the columns of the form as text.

    ``faults`` holds the line and reason of each record that could not be read.
    """

    table: pl.DataFrame
    faults: list[tuple[int, str]]
    notes: list[str]


def read_rows(text: TextFile, form: Form) -> Rows:
    """Read all records with the right number of columns.

    Raises:
        InputError: neither a header nor a record is found in the first lines.
    """
    lines = lines_of(text.content)
    if lines.is_empty():
        table = pl.DataFrame(schema={"line": pl.Int64, **dict.fromkeys(form.columns, pl.String)})
        return Rows(table=table, faults=[], notes=[f"{text.path.name} is empty"])
    begin, columns, faults = _find_columns(text, lines.head(_FIRST_LINES), form)
    # Text rarely contains a number next to a separator: it may resemble one id, but not two.
    own = _own(columns, form)
    records = joined_records(lines[begin:], columns.separator, own, most_own=3 if len(form.keys) == 1 else 0)
    if _is_numbered(records, columns, form):
        positions = {name: index + 1 for name, index in columns.positions.items()}
        columns = replace(columns, width=columns.width + 1, positions=positions)
    rows = _read(records, columns, form)
    return Rows(table=rows.table, faults=[*faults, *rows.faults], notes=columns.note(text.path.name))


def _find_columns(text: TextFile, first: pl.DataFrame, form: Form) -> tuple[int, Columns, list[tuple[int, str]]]:
    """Return the number of lines before the records, the columns, and faults for those lines that are not a header."""
    lines = first["text"].to_list()
    for index, line in enumerate(lines):
        named = _named_columns(line, form)
        if named is not None:
            return index + 1, named, _no_records(first[:index])
        columns = _columns_in_order(line, form)
        if columns is not None:
            header = index > 0 and _is_header(text, first.row(index - 1), columns, form)
            return index, columns, _no_records(first[: index - header])
    raise InputError(f"{text.path}, line {first['line'][0]}: '{shown(lines[0].strip())}'; expected {form.accepted}.")


def _no_records(lines: pl.DataFrame) -> list[tuple[int, str]]:
    return [(line, "neither header nor record") for line in lines["line"]]


def _named_columns(line: str, form: Form) -> Columns | None:
    columns = columns_by_name(line, form.columns, form.keys)
    values = [name for name in form.columns if name not in form.keys]
    if columns is None or any(name in columns.positions for name in values):
        return columns
    if len(values) == 1 and columns.width == len(form.columns):  # the only other column, whatever its name
        (index,) = set(range(columns.width)) - set(columns.positions.values())
        return replace(columns, positions={**columns.positions, values[0]: index}, ignored=())
    return None


def _columns_in_order(line: str, form: Form) -> Columns | None:
    for separator in SEPARATORS:
        if re.match("".join(form.pattern(key) + re.escape(separator) for key in form.keys), line):
            positions = {name: index for index, name in enumerate(form.columns)}
            return Columns(separator=separator, width=len(positions), positions=positions, header=False)
    return None


def _is_header(text: TextFile, above: tuple[int, str], columns: Columns, form: Form) -> bool:
    """True if the line above the first record is a header with unknown names."""
    number, line = above
    width = len(split_line(line, columns.separator))
    if width > columns.width:
        raise InputError(
            f"{text.path}, line {number}: the columns are '{shown(line.strip())}'; expected {form.accepted}."
        )
    return width == columns.width and not re.search(r"\d", line.partition(columns.separator)[0])


def _read(records: pl.DataFrame, columns: Columns, form: Form) -> Rows:
    separator, width = columns.separator, columns.width
    text = columns.positions.get(form.text or "")
    found = pl.col("text").str.count_matches(separator, literal=True) + 1
    well_formed = (found >= width) if text == width - 1 else (found == width)
    plain = well_formed & ~pl.col("text").str.contains('"', literal=True)
    cells = pl.col("text").str.splitn(separator, width).struct
    table = records.filter(plain).select(
        "line",
        *(cells.field(f"field_{columns.positions[name]}").str.strip_chars().alias(name) for name in columns.positions),
    )
    others, faults = _read_one_by_one(records.filter(~plain), columns, form, table.schema)
    table = pl.concat([table, others]).sort("line") if len(others) else table
    if form.text:
        table = table.with_columns(pl.col(form.text).str.replace_all("\n", " ", literal=True))
    if form.text and table[form.keys[0]].has_nulls():
        table, lonely = _run_on(table, form.text, form.keys[0])
        faults += [(line, f"1 instead of {width} columns") for line in lonely]
    missing = [pl.lit(None, pl.String).alias(name) for name in form.columns if name not in columns.positions]
    return Rows(table=table.with_columns(missing), faults=faults, notes=[])


def _read_one_by_one(
    records: pl.DataFrame, columns: Columns, form: Form, schema: pl.Schema
) -> tuple[pl.DataFrame, list[tuple[int, str]]]:
    """Read records that cannot simply be split at separators."""
    width, text = columns.width, columns.positions.get(form.text or "")
    rows: list[tuple[int | str | None, ...]] = []
    faults = []
    for line, record in records.iter_rows():
        cells: list[str | None] = [*cells_of(record, columns.separator, width, text)]
        if len(cells) == 1 and text == width - 1:
            cells = [*[None] * text, *cells]  # continues the text of the record above
        elif len(form.keys) < len(cells) < width and text is None:
            cells.extend([None] * (width - len(cells)))
        if len(cells) == width:
            rows.append((line, *(cells[index] for index in columns.positions.values())))
        else:
            faults.append((line, f"{len(cells)} instead of {width} columns"))
    return pl.DataFrame(rows, schema, orient="row"), faults


def _run_on(table: pl.DataFrame, text: str, key: str) -> tuple[pl.DataFrame, list[int]]:
    """Append the text of rows without a key to the row above; also return the lines of such rows with no row above."""
    table = table.with_columns(pl.col(key).is_not_null().cum_sum().alias("record"))
    others = [name for name in table.columns if name not in ("record", text)]
    joined = (
        table.filter(pl.col("record") > 0)
        .group_by("record", maintain_order=True)
        .agg(pl.col(others).first(), pl.col(text).str.join(" "))
        .select(*others, text)
    )
    return joined, table.filter(pl.col("record") == 0)["line"].to_list()


def _own(columns: Columns, form: Form) -> re.Pattern[str]:
    """A pattern that matches in lines that look like a record: ids in the id columns next to the text."""
    separator = re.escape(columns.separator)
    keys = {columns.positions[name]: form.pattern(name) for name in form.keys}
    cells = [keys.get(index, f"[^{separator}]*") for index in range(columns.width)]
    text = columns.positions.get(form.text or "", columns.width)
    before, after = cells[:text], cells[text + 1 :]
    if any(index < text for index in keys):
        return re.compile("^" + "".join(cell + separator for cell in before))
    return re.compile("".join(separator + cell for cell in after) + "$")


def _is_numbered(records: pl.DataFrame, columns: Columns, form: Form) -> bool:
    """True if every record starts with its row number, in a column without a name, followed by ids."""
    if form.text is None or columns.width > len(form.columns) or columns.positions[form.keys[0]] != 0:
        return False
    separator = re.escape(columns.separator)
    integer, text = (rf' *("?){value}("?) *{separator}' for value in (r"([+-]?\d+)(?:\.0*)?", r'([^",;|\t\n]+?)'))
    values = [integer, *(text if key in form.text_keys else integer for key in form.keys)]
    found = records.select(pl.col("text").str.extract_groups("^" + "".join(values)).struct.unnest())
    quotes = [pl.col(str(group)) == pl.col(str(group + 2)) for group in range(1, 3 * len(form.keys) + 4, 3)]
    numbers = found["2"].cast(pl.Int64, strict=False)
    begins = (0, 1) if columns.header else (0,)
    return bool(
        len(found)
        and found.select(pl.all_horizontal(quotes).fill_null(value=False).all()).item()
        and numbers[0] in begins
        and (numbers == pl.int_range(numbers[0], numbers[0] + len(numbers), eager=True)).all()
    )
