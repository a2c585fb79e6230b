"""Reading columns of polars, pandas and Arrow frames as ids, times, texts and counts."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from microlens.errors import InputError, one_line
from microlens.release.columns import integers
from microlens.release.ids import ids, why_no_id
from microlens.release.timestamps import ACCEPTED as TIMES_ACCEPTED
from microlens.release.timestamps import Clock, Moments, TimestampFault

_FRAMES = "a polars or pandas DataFrame, a pyarrow Table, or another object with __arrow_c_stream__"
_MOST_EXACT = 2**53  # largest integer up to which float64 represents every integer
_UNITS = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_DATETIMES = "times are datetimes, those without a zone taken as UTC; they are stored in milliseconds"


def columns_of(frame: Any, names: Sequence[str], argument: str, optional: Sequence[str] = ()) -> pl.DataFrame:
    """Select the columns ``names`` of a frame, and those of ``optional`` that exist.

    Columns that pandas numbers, as ``read_csv(header=None)`` does, are called by their numbers as text.

    Args:
        frame: polars or pandas data frame, or an object with the Arrow C stream interface.
        names: required columns.
        argument: name of the frame in messages.
        optional: optional columns.

    Raises:
        InputError: ``frame`` is not a frame, or lacks a column.
    """
    pandas = sys.modules.get("pandas")
    of_pandas = pandas is not None and isinstance(frame, pandas.DataFrame)
    if not of_pandas and not isinstance(frame, pl.DataFrame):
        frame = _from_arrow(frame, argument)
    there = [str(name) for name in frame.columns]
    wanted = dict.fromkeys([*names, *(name for name in optional if name in there)])
    for name in wanted:
        if there.count(name) != 1:
            fault = f"{there.count(name)} columns" if name in there else "no column"
            raise InputError(f"{argument} has {fault} '{name}'; its columns are {one_line(', '.join(there))}.")
    places = [there.index(name) for name in wanted]
    return pl.DataFrame([_from_pandas(frame.iloc[:, at]) if of_pandas else frame.to_series(at) for at in places])


def _from_arrow(frame: Any, argument: str) -> pl.DataFrame:
    """Convert an object that exports a stream of tables; that of one column, such as a Series, is none."""
    if isinstance(frame, pl.Series) or not hasattr(frame, "__arrow_c_stream__"):
        raise InputError(f"{argument} is of type {type(frame).__name__}; accepted is {_FRAMES}.")
    try:
        return pl.DataFrame(frame)
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise InputError(
            f"{argument} is of type {type(frame).__name__} and is no table ({one_line(str(error), 100)}); accepted is "
            f"{_FRAMES}."
        ) from None


def _from_pandas(column: Any) -> pl.Series:
    """Convert a pandas column without pyarrow, which polars would need."""
    name, dtype = str(column.name), column.dtype
    if getattr(dtype, "tz", None) is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
        dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind == "M":
        unit = np.datetime_data(dtype)[0]
        return pl.Series(name, column.to_numpy().astype(dtype if unit in _UNITS else "datetime64[ms]"))
    if isinstance(dtype, np.dtype) and dtype.kind in "iufb":
        return pl.Series(name, column.to_numpy())
    values = [value if there else None for value, there in zip(column.tolist(), column.notna().tolist(), strict=True)]
    try:
        return pl.Series(name, values)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):  # values of several types
        return pl.Series(name, values, dtype=pl.Object)


def id_column(column: pl.Series, argument: str, first_row: int = 0) -> pl.Series:
    """Convert ids to Int64, or to trimmed String if they are text, UUIDs or integers beyond 64 bits.

    Args:
        column: the ids.
        argument: name of the frame in messages.
        first_row: number of the first row in messages.

    Raises:
        InputError: an id is missing or invalid, or the column has another type.
    """
    kind = column.dtype
    named = _Named(argument, first_row)
    named.require(~_missing(column), column, "is missing")
    if kind.is_float():
        whole = (column.floor() == column) & (column.abs() <= _MOST_EXACT)
        named.require(whole, column, "is a decimal number; accepted are integers, text and UUIDs")
        return column.cast(pl.Int64)
    if kind.is_integer():
        whole = column.cast(pl.Int64, strict=False)
        return column.cast(pl.String) if whole.has_nulls() else whole
    if kind == pl.Object:
        column = _written(column)
    elif kind not in (pl.String, pl.Categorical, pl.Enum):
        raise InputError(f"column '{column.name}' of {argument} holds {kind}; accepted are integers, text and UUIDs.")
    written = column.cast(pl.String)
    read = written.to_frame().select(ids(pl.first(), text=True)).to_series()
    if read.has_nulls():
        row = _first(read.is_null())
        why = why_no_id(written[row], text=True)
        raise InputError(f"row {first_row + row} of {argument}: {why} (column '{column.name}').")
    return read


def ids_like(column: pl.Series, argument: str, *, text: bool) -> pl.Series:
    """Convert ids of another table to the type of the interactions' ids; raises as :func:`id_column`."""
    found = id_column(column, argument)
    if text:
        return found.cast(pl.String)
    read = found.cast(pl.Int64, strict=False)
    problem = "is not an integer, as the items of the interactions are"
    _Named(argument).require(read.is_not_null(), found, problem)
    return read


def time_column(column: pl.Series, argument: str) -> Moments:
    """Convert numbers, datetimes, dates or text to times, a column "timestamp".

    Raises:
        InputError: a time is missing or invalid, or they have several formats or units.
    """
    clock = Clock()
    values = times_of(column, argument, clock)
    finish(clock, column.name, argument)
    return Moments(values=values.alias("timestamp"), unit=clock.unit, note=clock.note)


def times_of(column: pl.Series, argument: str, clock: Clock, first_row: int = 0) -> pl.Series:
    """Convert numbers, datetimes, dates or text to comparable numbers, whose unit ``clock`` finds.

    ``argument`` and ``first_row`` are those of :func:`id_column`.

    Raises:
        InputError: a time is missing or invalid, or has another format than the first.
    """
    kind = column.dtype
    named = _Named(argument, first_row)
    named.require(~_missing(column), column, "is missing")
    if isinstance(kind, pl.Date):
        column = column.cast(pl.Datetime("ms"))
    if isinstance(column.dtype, pl.Datetime):
        clock.set(_UNITS[column.dtype.time_unit], _DATETIMES)
        return column.to_physical()
    if kind.is_integer() or kind.is_decimal() or kind.is_float():
        number = pl.Int64 if kind.is_integer() else pl.Float64
        read = column.cast(number, strict=False)
        fits = read.is_not_null() if kind.is_integer() else read.abs() < 2.0**63
        named.require(fits, column, "is beyond 64 bits")
        column = read
    elif kind != pl.String:
        raise InputError(f"column '{column.name}' of {argument} holds {kind}; accepted are {TIMES_ACCEPTED}.")
    with _naming_rows(column.name, argument):
        return clock.read(column, pl.int_range(first_row, first_row + len(column), eager=True))


def finish(clock: Clock, name: str, argument: str) -> None:
    """Find the unit of the times of the column ``name``; raises InputError if they have several."""
    with _naming_rows(name, argument):
        clock.finish()


@contextmanager
def _naming_rows(name: str, argument: str) -> Iterator[None]:
    """Turn a fault of a timestamp into InputError with its row."""
    try:
        yield
    except TimestampFault as fault:
        raise InputError(
            f"row {fault.row} of {argument}, column '{name}': {fault}; accepted are {TIMES_ACCEPTED}."
        ) from None


def text_column(column: pl.Series, argument: str) -> tuple[pl.Series, int]:
    """Convert a column to single-line text, null where missing; also return 0, the number of unreadable values.

    Whole decimal numbers are written as integers.

    Raises:
        InputError: the column cannot be read as text.
    """
    kind, missing = column.dtype, _missing(column)
    if missing.all():
        column = column.clear(len(column)).cast(pl.String)
    elif kind == pl.Object:
        column = _written(column)
    elif kind.is_float():
        # pandas turns integers into floats where one is missing
        whole = (column.floor() == column) & (column.abs() <= _MOST_EXACT)
        integers_of = column.cast(pl.Int64, strict=False).cast(pl.String)
        column = integers_of.zip_with(whole, column.cast(pl.String)).set(missing, None)
    elif isinstance(kind, (pl.Categorical, pl.Enum)) or kind.is_numeric():
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        raise InputError(f"column '{column.name}' of {argument} holds {kind}; accepted is text.")
    return column.str.replace_all(r"[\r\n]+", " ").str.strip_chars(), 0


def count_column(column: pl.Series, argument: str) -> tuple[pl.Series, int]:
    """Convert a column to integers; also return the number of invalid values, which become null.

    Raises:
        InputError: the column contains neither numbers nor text.
    """
    if _missing(column).all():
        return column.clear(len(column)).cast(pl.Int64), 0
    if column.dtype == pl.Object:
        column = _written(column)
    kind = column.dtype
    if kind == pl.String:
        read = column.to_frame().select(integers(pl.first())).to_series()
    elif kind.is_numeric():
        whole = pl.when(pl.first() == pl.first().floor()).then(pl.first()) if kind.is_float() else pl.first()
        read = column.to_frame().select(whole.cast(pl.Int64, strict=False)).to_series()
    else:
        raise InputError(f"column '{column.name}' of {argument} holds {kind}; accepted are integers.")
    return read, int((read.is_null() & ~_missing(column)).sum())


def _written(column: pl.Series) -> pl.Series:
    """The values of a column of several types as text, whole decimal numbers as integers, null where missing."""
    values = [None if is_missing(value) else value for value in column]
    return pl.Series(column.name, [None if value is None else _text(value) for value in values], pl.String)


def _text(value: Any) -> str:
    whole = isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(float(value)) <= _MOST_EXACT
    return str(int(value) if whole else value)


def is_missing(value: Any) -> bool:
    """True for None, NaN, and the values that pandas has for missing ones (NA, NaT)."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):  # pandas.NA is neither equal to itself nor unequal, and arrays are both
        return type(value).__name__ == "NAType"


def _missing(column: pl.Series) -> pl.Series:
    if column.dtype == pl.Object:
        return pl.Series(column.name, [is_missing(value) for value in column], pl.Boolean)
    missing = column.is_null()
    return missing | column.is_nan().fill_null(value=False) if column.dtype.is_float() else missing


@dataclass(frozen=True)
class _Named:
    """The frame ``argument``, whose rows are numbered from ``first_row`` in messages."""

    argument: str
    first_row: int = 0

    def require(self, good: pl.Series, column: pl.Series, why: str) -> None:
        """Raise InputError for the first row where ``good`` is False."""
        if not good.all():
            row = _first(~good)
            value = "" if "missing" in why else f" '{column[row]}'"
            where = f"row {self.first_row + row} of {self.argument}"
            raise InputError(f"{where}: the value{value} of column '{column.name}' {why}.")


def _first(wrong: pl.Series) -> int:
    return int(wrong.arg_max() or 0)
