"""Reading the split that a release came with: ``*split.csv``, a part for each interaction."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from microlens.errors import InputError
from microlens.release.columns import ITEM, USER, columns_by_name
from microlens.release.ids import TextIds, ids, why_no_id
from microlens.release.text_files import first_line, read_text, shown

TRAIN, VALID, TEST = 0, 1, 2
PARTS = ("train", "valid", "test")
"""Names of the parts, in order of their numbers."""
SPLIT = ("split", "part", "fold", "xlabel")
ACCEPTED = "the columns user,item,split under a header that names them; the split is train, valid or test, or 0, 1 or 2"
_NUMBERS = {
    **dict.fromkeys(("train", "training", "0"), TRAIN),
    **dict.fromkeys(("valid", "validation", "val", "dev", "1"), VALID),
    **dict.fromkeys(("test", "testing", "2"), TEST),
}


@dataclass(frozen=True, kw_only=True)
class GivenSplit:
    """A split: columns user and item (integers or text), and split (Int8: 0 train, 1 validation, 2 test).

    ``path`` is the file that it was read from.
    """

    path: Path
    table: pl.DataFrame

    @property
    def note(self) -> str:
        """What the split holds, for the manifest."""
        counts = [f"{int((self.table['split'] == number).sum()):,} {part}" for number, part in enumerate(PARTS)]
        return f"{self.path.name}: a split of {', '.join(counts)} interactions"


def read_given_split(path: Path, text_ids: TextIds) -> GivenSplit:
    """Read a table of users, items and parts; of several rows of a user and item, the first counts.

    Args:
        path: file to read.
        text_ids: which ids are text.

    Raises:
        InputError: the columns are not found, or a row has an invalid id or part.
    """
    text = read_text(path)
    found = first_line(text.content)
    columns = columns_by_name(found[2], {"user": USER, "item": ITEM, "split": SPLIT}) if found else None
    if found is None or columns is None:
        raise InputError(f"{path} is no split; expected {ACCEPTED}.")
    try:
        cells = pl.read_csv(text.content[found[0] :], separator=columns.separator, infer_schema=False, glob=False)
    except pl.exceptions.PolarsError:
        raise InputError(f"{path}: not every row has {columns.width} columns; expected {ACCEPTED}.") from None
    cells = cells.select(pl.nth(place).alias(name) for name, place in columns.positions.items())
    if cells.is_empty():
        raise InputError(f"{path} holds no rows; expected {ACCEPTED}.")
    kinds = {"user": text_ids.user, "item": text_ids.item}
    table = cells.select(*(ids(pl.col(name), text=text) for name, text in kinds.items()), part_numbers("split"))
    wrong = table.select(pl.any_horizontal(pl.all().is_null())).to_series()
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        line, why = found[1] + 1 + row, _why(cells[row], table[row], kinds)
        raise InputError(f"{path}, line {line}: {why}; expected {ACCEPTED}.")
    return GivenSplit(path=path, table=table.unique(["user", "item"], keep="first", maintain_order=True))


def part_numbers(column: str) -> pl.Expr:
    """A column of names or numbers of parts as 0, 1 or 2; null if it is neither."""
    plain = pl.col(column).cast(pl.String).str.strip_chars().str.to_lowercase().str.strip_suffix(".0")
    return plain.replace_strict(_NUMBERS, default=None, return_dtype=pl.Int8).alias(column)


def _why(written: pl.DataFrame, read: pl.DataFrame, kinds: dict[str, bool]) -> str:
    name = next(column for column in read.columns if read[column][0] is None)
    value = written[name][0]
    return f"'{shown(value or '')}' is no part" if name == "split" else why_no_id(value, text=kinds[name])
