"""Ids of users and items: 64-bit integers, or text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from microlens.release.columns import integers, why_no_integer
from microlens.release.text_files import shown

Id = int | str
LONGEST = 1_000  # characters
ACCEPTED = (
    "ids are 64-bit integers or, where the first one of a column is none, text of up to 1,000 characters without "
    "control characters"
)
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)(\.0*)?")
_MOST_DIGITS = 20  # length of a 64-bit integer, including its sign
_DECIMAL = re.compile(r"[+-]?[0-9]*\.[0-9]+")
_CONTROL = "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"


@dataclass(frozen=True, kw_only=True)
class TextIds:
    """Which ids of a release are text; the others are 64-bit integers."""

    user: bool = False
    item: bool = False


def is_text(first: str | None) -> bool:
    """True if the ids of a column are text, decided by the first id.

    Integers with a leading zero, a plus sign, or more than 64 bits are text. A decimal number is not text but an
    invalid integer, because it probably belongs to another column.
    """
    value = (first or "").strip()
    if _INTEGER.fullmatch(value):
        digits = value.partition(".")[0]
        return len(digits) > _MOST_DIGITS or not -(1 << 63) <= int(digits) < 1 << 63
    return value != "" and not _DECIMAL.fullmatch(value)


def ids(column: pl.Expr, *, text: bool) -> pl.Expr:
    """Parse ids as trimmed text or integers, null if invalid."""
    if not text:
        return integers(column)
    value = column.str.strip_chars()
    good = (value.str.len_chars().is_between(1, LONGEST)) & ~value.str.contains(_CONTROL)
    return pl.when(good).then(value)


def why_no_id(value: str | None, *, text: bool) -> str:
    """The reason why :func:`ids` rejects ``value``."""
    if not text:
        return why_no_integer(value)
    value = (value or "").strip()
    if not value:
        return "an id is empty"
    too_long = len(value) > LONGEST
    return f"'{shown(value)}' {f'has more than {LONGEST:,} characters' if too_long else 'holds control characters'}"


def positions_of(wanted: Sequence[object], among: pl.Series) -> npt.NDArray[np.int64]:
    """The index (n,) of each of ``wanted`` (n,) in the ascending ids ``among``; -1 if it is not in there.

    Integers may be given as text, and vice versa.
    """
    if among.dtype == pl.String:
        values = pl.Series([str(one) for one in wanted], dtype=pl.String)
    else:
        plain = pl.Series([str(one) for one in wanted], dtype=pl.String)
        values = pl.select(pl.when(plain.str.contains(r"^-?[0-9]+$")).then(plain.cast(pl.Int64, strict=False)))[:, 0]
    positions = among.search_sorted(values).cast(pl.Int64)
    found = among.gather(positions.clip(0, len(among) - 1)) == values
    return np.where(found.fill_null(value=False).to_numpy(), positions.to_numpy(), -1)


def notes_of_ids(name: str, text_ids: TextIds, first: tuple[str, str]) -> list[str]:
    """Notes on the ids of the table ``name`` that are text, because its ``first`` user and item are."""
    kinds = (("user", text_ids.user, first[0]), ("item", text_ids.item, first[1]))
    return [
        f"{name}: {what} ids are text, as the first of them, '{shown(id_, 20)}'" for what, text, id_ in kinds if text
    ]
