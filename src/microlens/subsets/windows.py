"""Time windows of interactions."""

import polars as pl

from microlens.errors import InputError
from microlens.release.timestamps import ACCEPTED, TimestampFault, read_moments


def moment(text: str, argument: str) -> int:
    """A time in milliseconds, or an untouched number if it is no time since 1989, as in the pairs of a release.

    Args:
        text: a number, or ISO 8601 such as 2023-01-31.
        argument: its name in messages.

    Raises:
        InputError: ``text`` is not a time.
    """
    try:
        moments = read_moments(pl.Series("moment", [text]))
    except TimestampFault as fault:
        raise InputError(f"{argument}: {fault}; accepted are {ACCEPTED}.") from None
    return int(moments.values.to_frame().select(moments.milliseconds()).item())


def in_window(times: pl.Series, start: int | None, end: int | None) -> pl.Series:
    """Mark the times (E,) from ``start`` on and before ``end``."""
    inside = pl.Series([True]).new_from_index(0, len(times))
    if start is not None:
        inside &= times >= start
    if end is not None:
        inside &= times < end
    return inside
