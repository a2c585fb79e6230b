"""Formats in which datasets can be written. A format is a writer and its entry in ``EXPORTS``."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from microlens.release.exports.croissant import write_croissant
from microlens.release.exports.huggingface import write_huggingface
from microlens.release.exports.mmrec import write_mmrec
from microlens.release.exports.official import write_official, write_official_csv, write_official_tsv
from microlens.release.exports.parquet import write_parquet
from microlens.release.exports.recbole import write_recbole
from microlens.release.formats.tables import Tables


@dataclass(frozen=True, kw_only=True)
class Export:
    """A format that is written.

    Args:
        write: writes tables into a folder and returns notes on choices and losses.
        is_release: True if the folder is a release.
    """

    write: Callable[[Tables, Path], tuple[str, ...]]
    is_release: bool = False


EXPORTS: dict[str, Export] = {
    "official": Export(write=write_official, is_release=True),
    "official-csv": Export(write=write_official_csv, is_release=True),
    "official-tsv": Export(write=write_official_tsv, is_release=True),
    "croissant": Export(write=write_croissant, is_release=True),
    "recbole": Export(write=write_recbole),
    "mmrec": Export(write=write_mmrec),
    "parquet": Export(write=write_parquet),
    "huggingface": Export(write=write_huggingface),
}
