"""Parsing timestamps (numbers in several units, ISO 8601) and converting them to milliseconds."""

from dataclasses import dataclass

import polars as pl

ACCEPTED = (
    "times in one format: whole or decimal numbers (seconds to nanoseconds since 1970, told apart by their size), or "
    "ISO 8601 such as 2024-05-31T12:00:00Z"
)

# Digits are written as [0-9]: \d is also those of other scripts, which are not parsed.
_WHOLE = r"^[+-]?[0-9]+(\.0*)?$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_ISO = (
    r"^(?<day>[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2})"
    r"(?:[T ](?<minute>[0-9]{1,2}:[0-9]{2})(?<second>:[0-9]{2}(?:[.,][0-9]{1,9})?)?"
    r"(?<zone> ?(?:Z|UTC|GMT|(?<sign>[+-])(?<hours>[0-9]{2})(?::?(?<minutes>[0-9]{2}))?))?)?$"
)
# A number is a time in a unit if it falls between 1989 and 2103; the ranges of the units do not overlap.
_EARLIEST, _LATEST = 600_000_000, 4_200_000_000
_UNITS = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000, "nanoseconds": 1_000_000_000}
_MOST_HOURS, _MOST_MINUTES = 23, 59  # of a time zone, as in Python's datetime
_INT64 = 1 << 63
_ROUNDED_UP = _INT64 - 512  # integers from here on are 2**63 as decimals


class TimestampFault(Exception):  # noqa: N818 - the file is at fault
    """The value in the row with number ``row`` is invalid; the message is the reason."""

    def __init__(self, row: int, why: str) -> None:
        super().__init__(why)
        self.row = row


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Comparable times, as integers or decimals, and their unit.

    ``unit`` is None if the numbers are not times since 1989 in any unit; they are then whole and kept unchanged.
    """

    values: pl.Series
    unit: str | None
    note: str | None

    def milliseconds(self) -> pl.Expr:
        """An expression that converts a column of ``values`` to whole milliseconds and preserves their order."""
        return in_milliseconds(pl.col(self.values.name), self.unit, decimal=self.values.dtype == pl.Float64)


def in_milliseconds(column: pl.Expr, unit: str | None, *, decimal: bool) -> pl.Expr:
    """Convert times in ``unit`` to whole milliseconds, preserving their order."""
    per_millisecond = _UNITS[unit or "milliseconds"] / 1000
    if decimal:
        return (column / per_millisecond).round().cast(pl.Int64)
    if per_millisecond < 1:
        return column * 1000
    return column if per_millisecond == 1 else column // int(per_millisecond)


def read_moments(column: pl.Series) -> Moments:
    """Parse a column of timestamps (E,), integers or text.

    Raises:
        TimestampFault: a value is not a time, or the column mixes formats or units.
    """
    clock = Clock()
    values = clock.read(column, pl.int_range(len(column), eager=True))
    clock.finish()
    return Moments(values=values, unit=clock.unit, note=clock.note)


class Clock:
    """Reads timestamps in batches, integers or text in one format, and finds their unit once all are read.

    Attributes:
        unit: as of :class:`Moments`; known after :meth:`finish`.
        note: what to tell the user about the format.
    """

    def __init__(self) -> None:
        self.unit: str | None = None
        self.note: str | None = None
        self._is_set = False
        self._format: _Format | None = None
        self._is_decimal = False
        self._telling = 0  # number of values that can be told to be in some unit or in none
        self._of_unit = dict.fromkeys(_UNITS, 0)
        self._first: dict[str, _Seen] = {}  # the first value of each unit, and the first ones that are too large

    def read(self, column: pl.Series, rows: pl.Series) -> pl.Series:
        """Parse timestamps (E,) to Int64 or Float64; ``rows`` (E,) are their numbers in messages.

        Raises:
            TimestampFault: a value is not a time, or has another format than the first.
        """
        if column.dtype == pl.String:
            text = column.str.strip_chars()
            is_number = text.str.contains(_NUMBER)
            if self._format is None:
                self._format = _Format.of(text)
            if self._format.is_iso or not is_number.all():
                return self._format.read(text, is_number, rows)
            column = _numbers(text, rows)
        elif self._format is None:
            self._format = _Format(is_iso=False, first=str(column[0]) if len(column) else "")
        self._is_decimal |= column.dtype == pl.Float64
        self._look_at(column, rows)
        return column

    def set(self, unit: str, note: str) -> None:
        """State the unit of timestamps that are read elsewhere."""
        self._is_set, self.unit, self.note = True, unit, note

    def finish(self) -> None:
        """Find the unit of all timestamps.

        Raises:
            TimestampFault: they have several units, or are too large for the unit.
        """
        if self._is_set:
            return
        if self._format is not None and self._format.is_iso:
            zone = "" if self._format.has_zone else ", taken as UTC"
            self.unit, self.note = "microseconds", f"timestamps are ISO 8601{zone}, stored in milliseconds"
            return
        if self._is_decimal and "decimals" in self._first:
            seen = self._first["decimals"]
            raise TimestampFault(seen.row, f"'{seen.value}' is beyond 64-bit integers")
        self.unit = self._common_unit()
        if self.unit is None and "fractions" in self._first:
            raise self._fault("fractions", "is a fraction in no unit since 1989; write such times as whole numbers")
        if self.unit == "seconds" and "milliseconds from seconds" in self._first:
            raise self._fault("milliseconds from seconds", "is beyond 64-bit milliseconds")
        self.note = None if self.unit == "milliseconds" else _note(self.unit)

    def _look_at(self, numbers: pl.Series, rows: pl.Series) -> None:
        size = numbers.clip(1 - _INT64).abs()  # the least 64-bit integer has no absolute value
        latest = _LATEST * _UNITS["nanoseconds"]
        # 0 and the ends of 64 bits stand for "unknown" in any unit.
        self._telling += int(((size >= _EARLIEST) & (size <= latest)).sum())
        for name, factor in _UNITS.items():
            belongs = size.is_between(_EARLIEST * factor, _LATEST * factor)
            self._of_unit[name] += int(belongs.sum())
            self._remember(name, belongs, numbers, rows)
        self._remember("milliseconds from seconds", size >= _INT64 // 1000, numbers, rows)
        self._remember("decimals", size >= _ROUNDED_UP, numbers, rows)
        if numbers.dtype == pl.Float64:
            self._remember("fractions", numbers != numbers.round(), numbers, rows)

    def _remember(self, name: str, which: pl.Series, numbers: pl.Series, rows: pl.Series) -> None:
        """Keep the first of ``numbers`` in ``which``."""
        if name not in self._first and which.any():
            row = int(which.arg_max() or 0)
            self._first[name] = _Seen(row=int(rows[row]), value=numbers[row])

    def _common_unit(self) -> str | None:
        found = [name for name in _UNITS if self._of_unit[name]]
        if not found or sum(self._of_unit.values()) < self._telling:
            return None
        if len(found) == 1:
            return found[0]
        one, other = sorted(found, key=lambda name: self._first[name].row)[:2]
        raise self._fault(other, f"is a time in {other}, '{self._shown(one)}' above one in {one}")

    def _fault(self, name: str, why: str) -> TimestampFault:
        return TimestampFault(self._first[name].row, f"'{self._shown(name)}' {why}")

    def _shown(self, name: str) -> str:
        value = self._first[name].value
        return str(float(value) if self._is_decimal else value)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A value and the number of its row."""

    row: int
    value: int | float


@dataclass(frozen=True, kw_only=True)
class _Format:
    """The format of the ``first`` timestamp, which all others share."""

    first: str
    is_iso: bool
    has_zone: bool = False

    @classmethod
    def of(cls, text: pl.Series) -> "_Format":
        """The format of the first of ``text``."""
        first = str(text[0]) if len(text) else ""
        zone = text.head(1).str.extract_groups(_ISO).struct.field("zone")
        is_iso = bool(text.head(1).str.contains(_ISO).any())
        return cls(first=first, is_iso=is_iso, has_zone=is_iso and zone.null_count() == 0)

    def read(self, text: pl.Series, is_number: pl.Series, rows: pl.Series) -> pl.Series:
        """Parse ISO 8601 to microseconds; raises :class:`TimestampFault` for other text, and if this is no ISO 8601."""
        is_iso = text.str.contains(_ISO)
        _require(is_iso | is_number, "is not a time", text, rows)
        _require(is_iso == self.is_iso, f"has another format than '{self.first}' above", text, rows)
        parts = text.str.extract_groups(_ISO).struct.unnest()
        same_zone = parts["zone"].is_not_null() == self.has_zone
        _require(same_zone, f"has a time zone, or has none, unlike '{self.first}' above", text, rows)
        hours, minutes = (parts[name].fill_null("0").cast(pl.Int64) for name in ("hours", "minutes"))
        possible = (hours <= _MOST_HOURS) & (minutes <= _MOST_MINUTES)
        _require(possible, "has an impossible time zone (at most 23 hours and 59 minutes)", text, rows)
        clock = pl.concat_str(
            pl.col("day").str.replace_all("/", "-"),
            pl.lit(" "),
            pl.col("minute").fill_null("00:00"),
            pl.col("second").fill_null(":00").str.replace(",", "."),
        ).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us")
        size = hours * 60 + minutes
        ahead = pl.when(pl.col("sign") == "-").then(-size).otherwise(size)
        moments = parts.select((clock.cast(pl.Int64) - ahead * 60_000_000).alias("timestamp")).to_series()
        _require(moments.is_not_null(), "is not a time", text, rows)
        return moments


def _numbers(text: pl.Series, rows: pl.Series) -> pl.Series:
    """Parse numbers to Int64 or, if one is decimal, Float64."""
    if text.str.contains(_WHOLE).all():
        column = text.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False)
        _require(column.is_not_null(), "is beyond 64-bit integers", text, rows)
    else:
        column = text.cast(pl.Float64)
        _require(column.abs() < _INT64, "is beyond 64-bit integers", text, rows)
    return column


def _note(unit: str | None) -> str:
    if unit is None:
        return "timestamps are no times since 1989 in seconds to nanoseconds; they are kept as they are"
    return f"timestamps are {unit}; they are stored in milliseconds"


def _require(good: pl.Series, why: str, values: pl.Series, rows: pl.Series) -> None:
    """Raise TimestampFault for the first row where ``good`` is False."""
    if not good.all():
        row = int((~good).fill_null(value=True).arg_max() or 0)
        raise TimestampFault(int(rows[row]), f"'{values[row]}' {why}")
