"""Parsing timestamps (numbers in several units, ISO 8601) and converting them to milliseconds."""

from dataclasses import dataclass

import polars as pl

ACCEPTED = (
    "times in one format: whole or decimal numbers (seconds to nanoseconds since 1970, told apart by their size), or "
    "ISO 8601 such as 2024-05-31T12:00:00Z"
)

_WHOLE = r"^[+-]?\d+(\.0*)?$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
_ISO = (
    r"^(?<day>\d{4}[-/]\d{1,2}[-/]\d{1,2})"
    r"(?:[T ](?<minute>\d{1,2}:\d\d)(?<second>:\d\d(?:[.,]\d{1,9})?)?"
    r"(?<zone> ?(?:Z|UTC|GMT|(?<sign>[+-])(?<hours>\d\d)(?::?(?<minutes>\d\d))?))?)?$"
)
# A number is a time in a unit if it falls between 1989 and 2103; the ranges of the units do not overlap.
_EARLIEST, _LATEST = 600_000_000, 4_200_000_000
_UNITS = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000, "nanoseconds": 1_000_000_000}
_INT64 = 1 << 63


class TimestampFault(Exception):  # noqa: N818 - the file is at fault
    """The value in row ``row`` is invalid; the message is the reason."""

    def __init__(self, row: int, why: str) -> None:
        super().__init__(why)
        self.row = row


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Comparable times, as integers or decimals, and their unit.

    ``unit`` is None if the numbers are not times since 1989 in any unit; they are then kept unchanged.
    """

    values: pl.Series
    unit: str | None
    note: str | None

    def milliseconds(self) -> pl.Expr:
        """An expression that converts a column of ``values`` to whole milliseconds and preserves their order."""
        column = pl.col(self.values.name)
        per_millisecond = _UNITS[self.unit or "milliseconds"] / 1000
        if self.values.dtype == pl.Float64:
            return (column / per_millisecond).round().cast(pl.Int64)
        if per_millisecond < 1:
            return column * 1000
        return column if per_millisecond == 1 else column // int(per_millisecond)


def read_moments(column: pl.Series) -> Moments:
    """Parse a column of timestamps (E,), integers or text.

    Raises:
        TimestampFault: a value is not a time, or the column mixes formats or units.
    """
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        if text.str.contains(_WHOLE).all():
            column = text.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False)
            _require(column.is_not_null(), "is beyond 64-bit integers", text)
        elif text.str.contains(_NUMBER).all():
            column = text.cast(pl.Float64)
            _require(column.abs() < _INT64, "is beyond 64-bit integers", text)
        else:
            return _read_iso(text)
    unit = _unit_of(column)
    if unit == "seconds":
        _require((column < _INT64 // 1000) & (column > -_INT64 // 1000), "is beyond 64-bit milliseconds", column)
    note = f"timestamps are {unit}; they are stored in milliseconds"
    if unit is None:
        note = "timestamps are no times since 1989 in seconds to nanoseconds; they are kept as they are"
    return Moments(values=column, unit=unit, note=None if unit == "milliseconds" else note)


def _unit_of(numbers: pl.Series) -> str | None:
    size = numbers.clip(1 - _INT64).abs()  # the least 64-bit integer has no absolute value
    latest = _LATEST * _UNITS["nanoseconds"]
    telling = (size >= _EARLIEST) & (size <= latest)  # 0 and the ends of 64 bits stand for "unknown" in any unit
    of_unit = {name: size.is_between(_EARLIEST * factor, _LATEST * factor) for name, factor in _UNITS.items()}
    found = [name for name, belongs in of_unit.items() if belongs.any()]
    if not found or sum(int(of_unit[name].sum()) for name in found) < telling.sum():
        return None
    if len(found) == 1:
        return found[0]
    first = {name: int(of_unit[name].arg_max() or 0) for name in found}
    one, other = sorted(found, key=first.__getitem__)[:2]
    raise TimestampFault(
        first[other], f"'{numbers[first[other]]}' is a time in {other}, '{numbers[first[one]]}' above one in {one}"
    )


def _read_iso(text: pl.Series) -> Moments:
    is_iso, is_number = text.str.contains(_ISO), text.str.contains(_NUMBER)
    _require(is_iso | is_number, "is not a time", text)
    _require(is_iso == is_iso[0], f"has another format than '{text[0]}' above", text)
    parts = text.str.extract_groups(_ISO).struct.unnest()
    has_zone = parts["zone"].is_not_null()
    _require(has_zone == has_zone[0], f"has a time zone, or has none, unlike '{text[0]}' above", text)
    clock = pl.concat_str(
        pl.col("day").str.replace_all("/", "-"),
        pl.lit(" "),
        pl.col("minute").fill_null("00:00"),
        pl.col("second").fill_null(":00").str.replace(",", "."),
    ).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us")
    ahead = pl.col("hours").fill_null("0").cast(pl.Int64) * 60 + pl.col("minutes").fill_null("0").cast(pl.Int64)
    ahead = pl.when(pl.col("sign") == "-").then(-ahead).otherwise(ahead)
    moments = parts.select((clock.cast(pl.Int64) - ahead * 60_000_000).alias("timestamp")).to_series()
    _require(moments.is_not_null(), "is not a time", text)
    zone = "" if has_zone[0] else ", taken as UTC"
    return Moments(values=moments, unit="microseconds", note=f"timestamps are ISO 8601{zone}, stored in milliseconds")


def _require(good: pl.Series, why: str, values: pl.Series) -> None:
    """Raise TimestampFault for the first row where ``good`` is False."""
    if not good.all():
        row = int((~good).fill_null(value=True).arg_max() or 0)
        raise TimestampFault(row, f"'{values[row]}' {why}")
