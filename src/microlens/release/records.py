"""Records of text tables that are not strictly CSV: unbalanced quotes, unquoted commas, line breaks."""

import csv
import re
from collections.abc import Sequence

import polars as pl

_MOST_LINES = 200  # of one record; an unbalanced quote must not swallow the rest of a table
_INSIDE = '[^"]*(?:""[^"]*)*'  # content between the quotes around a value


def joined_records(lines: pl.DataFrame, separator: str, own: re.Pattern[str], most_own: int) -> pl.DataFrame:
    """Join the lines of a table to records: columns line (the first of a record) and text.

    A quoted value may span several lines. A quote that is never closed is part of the text, and so is a quote that
    would close only after lines that are separate records.

    Args:
        lines: non-blank lines, with columns line and text.
        separator: separator of values.
        own: pattern that matches in lines that look like a separate record.
        most_own: maximum number of such lines within quotes.
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
    """Finds the line that closes a quote."""

    def __init__(self, separator: str, opening: re.Pattern[str], own: re.Pattern[str], most_own: int) -> None:
        self._opening = opening
        self._closing = re.compile(rf'{_INSIDE}"(?= *(?:{re.escape(separator)}|$))')
        self._own = own
        self._most_own = most_own

    def length(self, following: Sequence[str]) -> int:
        """The number of following lines that belong to the same record; 0 if the quotes are not properly closed."""
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
                return 0  # the quote is inside a value
            if closed is not None and not self._opening.search(line, closed.end()):
                return index + 1
        return 0


def cells_of(record: str, separator: str, width: int, text: int | None) -> list[str]:
    """Split a record into values; ``width`` of them if it is well formed.

    Args:
        record: one record.
        separator: separator of values.
        width: number of columns.
        text: index of the column with free text, to which surplus values are joined.
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
