"""Records of text tables that keep the rules of CSV only in part: unbalanced quotes, bare commas, line breaks."""

import csv
import re
from collections.abc import Sequence

import polars as pl

_MOST_LINES = 200  # of one record; an unbalanced quote must not swallow the rest of a table
_INSIDE = '[^"]*(?:""[^"]*)*'  # what may stand between the quotes around a value


def joined_records(lines: pl.DataFrame, separator: str, own: re.Pattern[str], most_own: int) -> pl.DataFrame:
    """The records of a table, from its lines: columns line (of a record the first) and text.

    A quoted value may run over several lines. A quote that nothing closes is a part of the text, and so is one whose
    end would lie beyond lines that are records of their own.

    Args:
        lines: the lines that are not blank, columns line and text.
        separator: what stands between values.
        own: found in a line that looks like a record of its own.
        most_own: how many such lines may stand within quotes.
    """
    opening = rf'(?:^|{re.escape(separator)}) *"{_INSIDE}$'
    text = lines["text"]
    unclosed = (text.str.count_matches('"', literal=True) % 2 == 1) & text.str.contains(opening)
    closes = _Quotes(separator, re.compile(opening), own, most_own)
    joined: dict[int, str] = {}
    within: list[int] = []
    for index in unclosed.arg_true().to_list():
        if within and index <= within[-1]:
            continue
        following = text[index + 1 : index + _MOST_LINES].to_list()
        length = closes.length(following)
        if length:
            joined[index] = "\n".join([text[index], *following[:length]])
            within += range(index + 1, index + 1 + length)
    if not joined:
        return lines
    whole = pl.DataFrame(
        {"index": list(joined), "whole": list(joined.values())}, {"index": pl.UInt32, "whole": pl.String}
    )
    return (
        lines.with_row_index("index")
        .filter(~pl.col("index").is_in(within))
        .join(whole, on="index", how="left", maintain_order="left")
        .select("line", pl.coalesce("whole", "text").alias("text"))
    )


class _Quotes:
    """Finds where quotes close that a line opened."""

    def __init__(self, separator: str, opening: re.Pattern[str], own: re.Pattern[str], most_own: int) -> None:
        self._opening = opening
        self._closing = re.compile(rf'{_INSIDE}"(?= *(?:{re.escape(separator)}|$))')
        self._own = own
        self._most_own = most_own

    def length(self, following: Sequence[str]) -> int:
        """How many of the lines that follow belong to the same record; none if the quotes do not close properly."""
        found_own = 0
        for index, line in enumerate(following):
            quoted = '"' in line and not re.fullmatch(_INSIDE, line)
            closed = self._closing.match(line) if quoted else None
            own = self._own.search(line)
            if own is not None and (closed is None or own.start() < closed.end()):
                found_own += 1
                opens = closed is not None and own.end() == closed.end() - 1 == len(line) - 1
                if opens or found_own > self._most_own:
                    return 0
            if quoted and closed is None:
                return 0  # the quote stands inside a value
            if closed is not None and not self._opening.search(line, closed.end()):
                return index + 1
        return 0


def cells_of(record: str, separator: str, width: int, text: int | None) -> list[str]:
    """The values of a record; ``width`` of them, if it is well formed.

    Args:
        record: one record.
        separator: what stands between values.
        width: how many columns there are.
        text: which column holds free text, and takes what bare separators cut off.
    """
    if '"' in record:
        try:
            cells = next(csv.reader([record], delimiter=separator, skipinitialspace=True, strict=True))
        except csv.Error:
            cells = []
        if len(cells) == width:
            return [cell.strip() for cell in cells]
    cells = record.split(separator)
    surplus = len(cells) - width
    if surplus > 0 and text is not None:
        cells[text : text + surplus + 1] = [separator.join(cells[text : text + surplus + 1])]
    return [_unquoted(cell.strip()) for cell in cells]


def _unquoted(cell: str) -> str:
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell
