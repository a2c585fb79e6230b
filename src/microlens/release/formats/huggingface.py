"""Datasets stored by the Hugging Face library datasets: interactions, and perhaps items and comments."""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from microlens.errors import InputError
from microlens.release.formats.frames import tables_of_frames
from microlens.release.formats.tables import Tables
from microlens.release.given_split import PARTS

STATES = ("dataset_dict.json", "state.json")
TABLES = ("interactions", "items", "comments")
PART_NAMES = dict(zip(("train", "validation", "test"), PARTS, strict=True))
"""Names of the parts of a split in the library, and here."""


def huggingface_datasets(what: str) -> ModuleType:
    """Import the library on behalf of ``what``.

    Raises:
        InputError: it is not installed.
    """
    try:
        library = import_module("datasets")
    except ModuleNotFoundError:
        hint = "install it with: pip install 'microlens[exchange]'"
        raise InputError(f"{what} needs the package datasets; {hint}") from None
    library.disable_progress_bars()
    return library


def read_huggingface(path: Path) -> Tables:
    """Read a folder that ``save_to_disk`` wrote, given by its file ``state.json`` or ``dataset_dict.json``.

    A DatasetDict of train, validation and test is a split. Folders ``items`` and ``comments`` beside a folder
    ``interactions`` are read, too.

    Raises:
        InputError: the library is missing, the folder cannot be read, or a column is missing or invalid.
    """
    folder = path.resolve().parent
    several = folder.name == TABLES[0]
    folders = {TABLES[0]: folder}
    if several:
        folders |= {name: folder.with_name(name) for name in TABLES[1:] if folder.with_name(name).is_dir()}
    frames = {name: _read(one) for name, one in folders.items()}
    name = folder.parent.name if several else folder.name
    return tables_of_frames(name, [path], frames)


def _read(folder: Path) -> pl.DataFrame:
    library = huggingface_datasets(str(folder))
    try:
        found = library.load_from_disk(str(folder))
    except Exception as error:  # the library raises errors of many kinds
        raise InputError(f"{folder} cannot be read by the library datasets ({error}).") from None
    if isinstance(found, library.DatasetDict):
        return _joined(folder, found)
    return _frame(found)


def _joined(folder: Path, parts: Any) -> pl.DataFrame:
    """The parts of a DatasetDict one below the other, with the column split."""
    if set(parts) == {"train"}:
        return _frame(parts["train"])
    unknown = [name for name in parts if name not in PART_NAMES]
    if unknown:
        raise InputError(f"{folder} has a part '{unknown[0]}'; accepted are {', '.join(PART_NAMES)}.")
    named = [(label, parts[name]) for name, label in PART_NAMES.items() if name in parts]
    return pl.concat([_frame(part).with_columns(pl.lit(label).alias("split")) for label, part in named])


def _frame(dataset: Any) -> pl.DataFrame:
    frame = pl.from_arrow(dataset.with_format("arrow")[:])
    assert isinstance(frame, pl.DataFrame)
    return frame
