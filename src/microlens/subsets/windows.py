"""Time windows of interactions."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from microlens.errors import InputError, shown
from microlens.release.frame_columns import is_missing
from microlens.release.timestamps import ACCEPTED, TimestampFault, read_moments

Moment = str | float | date
"""A time: a number or ISO 8601 such as 2023-01-31, or a date or datetime, in UTC if it has no time zone."""


def moment(given: Moment, argument: str) -> int:
    """A time in milliseconds, or an untouched number if it is no time since 1989, as in the pairs of a release.

    Args:
        given: the time.
        argument: its name in messages.

    Raises:
        InputError: ``given`` is not a time.
    """
    if isinstance(given, date) and not is_missing(given):
        return _milliseconds(given)
    if isinstance(given, bool) or not isinstance(given, (str, int, float, np.integer, np.floating)):
        raise InputError(f"{argument}={shown(given)} is not a time; accepted are dates, datetimes, and {ACCEPTED}.")
    try:
        moments = read_moments(pl.Series("moment", [given if isinstance(given, str) else str(given)]))
    except TimestampFault as fault:
        raise InputError(f"{argument}={fault}; accepted are {ACCEPTED}.") from None
    return int(moments.values.to_frame().select(moments.milliseconds()).item())


def _milliseconds(given: date) -> int:
    """Whole milliseconds since 1970, rounded down as those of a release are."""
    at = given if isinstance(given, datetime) else datetime(given.year, given.month, given.day, tzinfo=UTC)
    at = at if at.utcoffset() is not None else at.replace(tzinfo=UTC)
    return int((at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1))


def in_window(times: pl.Series, start: int | None, end: int | None) -> pl.Series:
    """Mark the times (E,) from ``start`` on and before ``end``."""
    inside = pl.Series([True]).new_from_index(0, len(times))
    if start is not None:
        inside &= times >= start
    if end is not None:
        inside &= times < end
    return inside
