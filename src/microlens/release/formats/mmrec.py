"""MMRec's datasets: interactions with a split, and features whose rows are numbered like the items.

Format: https://github.com/enoche/MMRec; ``x_label`` is 0 for train, 1 for validation and 2 for test.
"""

from pathlib import Path

from microlens.errors import InputError
from microlens.release.columns import ITEM, TIME, USER, columns_by_name
from microlens.release.formats.tables import Tables, read_cells, read_events
from microlens.release.given_split import part_numbers
from microlens.release.text_files import first_line, read_text, shown, unpacked_name

ACCEPTED = "the columns userID and itemID, perhaps timestamp, and x_label (0, 1 or 2), separated by tabs"
_LABEL = ("xlabel",)


def read_mmrec(path: Path) -> Tables:
    """Read a ``.inter`` file with the column ``x_label``; files ``*_feat.npy`` beside it are features.

    Raises:
        InputError: the file is empty or lacks a column, or a row cannot be read.
    """
    text = read_text(path)
    found = first_line(text.content)
    wanted = {"user": USER, "item": ITEM, "timestamp": TIME, "split": _LABEL}
    columns = columns_by_name(found[2], wanted, ("user", "item", "split")) if found else None
    if found is None or columns is None:
        raise InputError(f"{path}, line 1: '{shown(found[2] if found else '')}'; expected {ACCEPTED}.")
    names = [str(place) for place in range(columns.width)]
    for name, place in columns.positions.items():
        names[place] = name
    cells = read_cells(text, columns.separator, names, ACCEPTED, skip_lines=found[1]).select("line", *columns.positions)
    labels = cells.select(part_numbers("split")).to_series()
    if labels.has_nulls():
        row = int(labels.is_null().arg_max() or 0)
        raise InputError(
            f"{path}, line {cells['line'][row]}: x_label is '{shown(cells['split'][row])}'; expected {ACCEPTED}."
        )
    events, notes = read_events(text, cells.with_columns(labels), ACCEPTED)
    features = tuple(sorted(path.parent.glob("*_feat.npy")))
    return Tables(
        name=Path(unpacked_name(path)).stem,
        files=(path, *features),
        events=events,
        features=features,
        notes=(*text.notes, *notes, *columns.note(path.name)),
    )
