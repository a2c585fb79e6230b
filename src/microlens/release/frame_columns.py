"""Reading columns of polars, pandas and Arrow frames as ids, times, texts and counts."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from microlens.errors import InputError, one_line
from microlens.release.columns import integers
from microlens.release.ids import ids, why_no_id
from microlens.release.timestamps import ACCEPTED as TIMES_ACCEPTED
from microlens.release.timestamps import Moments, TimestampFault, read_moments

_FRAMES = "a polars or pandas DataFrame, a pyarrow Table, or another object with __arrow_c_stream__"
_MOST_EXACT = 2**53  # largest integer up to which float64 represents every integer
_UNITS = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_DATETIMES = "times are datetimes, those without a zone taken as UTC; they are stored in milliseconds"


def columns_of(frame: Any, names: Sequence[str], argument: str, optional: Sequence[str] = ()) -> pl.DataFrame:
    """Select the columns ``names`` of a frame, and those of ``optional`` that exist.

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
        if not hasattr(frame, "__arrow_c_stream__"):
            raise InputError(f"{argument} is of type {type(frame).__name__}; accepted is {_FRAMES}.")
        frame = pl.DataFrame(frame)
    there = [name for name in frame.columns if isinstance(name, str)]
    for name in names:
        if there.count(name) != 1:
            fault = f"{there.count(name)} columns" if name in there else "no column"
            raise InputError(f"{argument} has {fault} '{name}'; its columns are {one_line(', '.join(there))}.")
    wanted = dict.fromkeys([*names, *(name for name in optional if name in there)])
    return pl.DataFrame([_from_pandas(frame[name]) if of_pandas else frame[name] for name in wanted])


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


def id_column(column: pl.Series, argument: str) -> pl.Series:
    """Convert ids to Int64, or to trimmed String if they are text, UUIDs or integers beyond 64 bits.

    Raises:
        InputError: an id is missing or invalid, or the column has another type.
    """
    kind = column.dtype
    _require(~_missing(column), column, argument, "is missing")
    if kind.is_float():
        whole = (column.floor() == column) & (column.abs() <= _MOST_EXACT)
        _require(whole, column, argument, "is a decimal number; accepted are integers, text and UUIDs")
        return column.cast(pl.Int64)
    if kind.is_integer():
        whole = column.cast(pl.Int64, strict=False)
        return column.cast(pl.String) if whole.has_nulls() else whole
    if kind == pl.Object:
        column = pl.Series(column.name, [str(value) for value in column], pl.String)
    elif kind not in (pl.String, pl.Categorical, pl.Enum):
        raise InputError(f"column '{column.name}' of {argument} holds {kind}; accepted are integers, text and UUIDs.")
    written = column.cast(pl.String)
    read = written.to_frame().select(ids(pl.first(), text=True)).to_series()
    if read.has_nulls():
        row = _first(read.is_null())
        why = why_no_id(written[row], text=True)
        raise InputError(f"row {row} of {argument}: {why} (column '{column.name}').")
    return read


def ids_like(column: pl.Series, argument: str, *, text: bool) -> pl.Series:
    """Convert ids of another table to the type of the interactions' ids; raises as :func:`id_column`."""
    found = id_column(column, argument)
    if text:
        return found.cast(pl.String)
    read = found.cast(pl.Int64, strict=False)
    _require(read.is_not_null(), found, argument, "is not an integer, as the items of the interactions are")
    return read


def time_column(column: pl.Series, argument: str) -> Moments:
    """Convert numbers, datetimes, dates or text to times, a column "timestamp".

    Raises:
        InputError: a time is missing or invalid.
    """
    kind = column.dtype
    _require(~_missing(column), column, argument, "is missing")
    if isinstance(kind, pl.Date):
        column = column.cast(pl.Datetime("ms"))
    if isinstance(column.dtype, pl.Datetime):
        return Moments(
            values=column.to_physical().alias("timestamp"), unit=_UNITS[column.dtype.time_unit], note=_DATETIMES
        )
    if kind.is_integer() or kind.is_decimal() or kind.is_float():
        number = pl.Int64 if kind.is_integer() else pl.Float64
        read = column.cast(number, strict=False)
        _require(read.is_not_null() & (read.cast(pl.Float64).abs() < 2.0**63), column, argument, "is beyond 64 bits")
        column = read
    elif kind != pl.String:
        raise InputError(f"column '{column.name}' of {argument} holds {kind}; accepted are {TIMES_ACCEPTED}.")
    try:
        return read_moments(column.alias("timestamp"))
    except TimestampFault as fault:
        raise InputError(
            f"row {fault.row} of {argument}, column '{column.name}': {fault}; accepted are {TIMES_ACCEPTED}."
        ) from None


def text_column(column: pl.Series, argument: str) -> tuple[pl.Series, int]:
    """Convert a column to single-line text, null where missing; also return 0, the number of unreadable values.

    Raises:
        InputError: the column cannot be read as text.
    """
    if column.dtype == pl.Null or isinstance(column.dtype, (pl.Categorical, pl.Enum)) or column.dtype.is_numeric():
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        raise InputError(f"column '{column.name}' of {argument} holds {column.dtype}; accepted is text.")
    return column.str.replace_all(r"[\r\n]+", " ").str.strip_chars(), 0


def count_column(column: pl.Series, argument: str) -> tuple[pl.Series, int]:
    """Convert a column to integers; also return the number of invalid values, which become null.

    Raises:
        InputError: the column contains neither numbers nor text.
    """
    kind = column.dtype
    if kind == pl.String:
        read = column.to_frame().select(integers(pl.first())).to_series()
    elif kind.is_numeric() or kind == pl.Null:
        whole = pl.when(pl.first() == pl.first().floor()).then(pl.first()) if kind.is_float() else pl.first()
        read = column.to_frame().select(whole.cast(pl.Int64, strict=False)).to_series()
    else:
        raise InputError(f"column '{column.name}' of {argument} holds {kind}; accepted are integers.")
    return read, int((read.is_null() & ~_missing(column)).sum())


def _missing(column: pl.Series) -> pl.Series:
    missing = column.is_null()
    return missing | column.is_nan().fill_null(value=False) if column.dtype.is_float() else missing


def _require(good: pl.Series, column: pl.Series, argument: str, why: str) -> None:
    """Raise InputError for the first row where ``good`` is False."""
    if not good.all():
        row = _first(~good)
        value = "" if "missing" in why else f" '{column[row]}'"
        raise InputError(f"row {row} of {argument}: the value{value} of column '{column.name}' {why}.")


def _first(wrong: pl.Series) -> int:
    return int(wrong.arg_max() or 0)
