"""The same rows as different programs write them: separators, quotes, line ends, encodings, headers, columns."""

import codecs
import csv
import gzip
from collections.abc import Sequence
from io import StringIO
from typing import Any

from tests.fuzz.mutations import Random

Row = Sequence[Any]


def rendered(rows: Sequence[Row], header: Sequence[str], random: Random, *, separators: str = ",,,;\t") -> bytes:
    """A table as a file that a CSV reader with the right dialect reads back as it was.

    The columns are moved, and one is added, only where a header says which is which.
    """
    columns = list(range(len(header)))
    names = [*header] if random.random() < 0.75 else None
    if names and random.random() < 0.3:
        columns = [int(column) for column in random.permutation(len(header))]
    table = [[row[column] for column in columns] for row in rows]
    if names:
        names = [names[column] for column in columns]
        case = int(random.integers(4))
        names = [name.title() if case == 1 else name.upper() if case == 2 else name for name in names]
        if random.random() < 0.2:  # as pandas writes its index
            names, table = ["", *names], [[number, *row] for number, row in enumerate(table)]
    text = StringIO()
    end = ("\n", "\n", "\r\n", "\r")[int(random.integers(4))]
    writer = csv.writer(
        text,
        delimiter=separators[int(random.integers(len(separators)))],
        # The writer quotes a line feed only where lines end with one.
        quoting=csv.QUOTE_ALL if end == "\r" or random.random() < 0.2 else csv.QUOTE_MINIMAL,
        lineterminator=end,
    )
    writer.writerows([names, *table] if names else table)
    return encoded(text.getvalue(), random)


def encoded(text: str, random: Random) -> bytes:
    """Text in one of the encodings that come up, or packed."""
    forms = (
        text.encode(), text.encode(), text.encode(), text.rstrip("\r\n").encode(), codecs.BOM_UTF8 + text.encode(),
        text.encode("utf-16"), text.encode("gb18030"), gzip.compress(text.encode(), mtime=0),
    )  # fmt: skip
    return forms[int(random.integers(len(forms)))]
