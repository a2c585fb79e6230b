"""Writing a release with Croissant metadata, JSON-LD that describes its files and columns.

Format: https://docs.mlcommons.org/croissant/docs/croissant-spec.html.
"""

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from microlens.errors import InputError
from microlens.files.writing import sha256, write_text
from microlens.release.exports.official import write_official_csv
from microlens.release.formats.tables import Tables

METADATA = "croissant.json"


def write_croissant(tables: Tables, folder: Path) -> tuple[str, ...]:
    """Write a release and ``croissant.json``, which describes its csv files; the library mlcroissant has validated it.

    Raises:
        InputError: the library is not installed.
    """
    library = _library()
    notes = write_official_csv(tables, folder)
    metadata = library.Metadata(
        name=tables.name,
        description=f"{len(tables.events):,} interactions of {tables.events['user'].n_unique():,} users with "
        f"{tables.events['item'].n_unique():,} items.",
        distribution=[_file(library, path) for path in sorted(folder.glob("*_*.csv"))],
        record_sets=[_records(library, path, tables.events) for path in sorted(folder.glob("*_*.csv"))],
    )
    write_text(folder / METADATA, json.dumps(metadata.to_json(), indent=1, default=str) + "\n")
    library.Dataset(folder / METADATA)  # raises if the metadata is invalid
    return notes


def _library() -> ModuleType:
    try:
        return import_module("mlcroissant")
    except ModuleNotFoundError:
        hint = "install it with: pip install 'microlens[exchange]'"
        raise InputError(f"microlens data convert --to croissant needs the package mlcroissant; {hint}") from None


def _file(library: Any, path: Path) -> Any:
    return library.FileObject(
        id=path.name, name=path.name, content_url=path.name, encoding_formats=["text/csv"], sha256=sha256(path)
    )


def _records(library: Any, path: Path, events: pl.DataFrame) -> Any:
    name = path.stem.rpartition("_")[2]
    columns = pl.read_csv(path, n_rows=0, glob=False).columns
    return library.RecordSet(
        id=name, name=name, fields=[_field(library, f"{name}/{column}", path, column, events) for column in columns]
    )


def _field(library: Any, field: str, path: Path, column: str, events: pl.DataFrame) -> Any:
    is_integer = column in events.columns and events.schema[column] == pl.Int64
    return library.Field(
        id=field,
        name=column,
        data_types=[library.DataType.INTEGER if is_integer else library.DataType.TEXT],
        source=library.Source(file_object=path.name, extract=library.Extract(column=column)),
    )
