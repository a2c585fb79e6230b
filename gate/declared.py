"""The data sets, rows and published figures of ``datasets.toml``."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DECLARED = Path(__file__).with_name("datasets.toml")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Published metrics with their source, and the relative tolerance below them."""

    metrics: dict[str, float]
    tolerance: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model with its options.

    Attributes:
        seeds: the number of runs, with seeds from 42; the row's metrics are their means.
        seed_deviation: standard deviation of NDCG@10 between seeds, as a fraction of its mean, where measured.
        small: the row is also part of the gate's short form.
    """

    name: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    features: str | None = None
    published: Figure | None = None
    seeds: int = 1
    seed_deviation: float = 0.0
    small: bool = False


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows under one protocol; the first is Popularity."""

    name: str
    protocol: dict[str, Any]
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class GateData:
    """A public data set in one of several folders, known by the checksum of its pairs file."""

    name: str
    folders: tuple[str, ...]
    title: str
    home: str
    pairs_sha256: str
    parts: tuple[Part, ...]


def read_declared(path: Path = DECLARED) -> list[GateData]:
    """Read the declared data sets."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    figures = {name: Figure(**fields) for name, fields in table.get("figures", {}).items()}
    return [
        GateData(**{**data, "parts": tuple(_part(part, figures) for part in data["parts"])})
        for data in table["datasets"]
    ]


def _part(table: dict[str, Any], figures: dict[str, Figure]) -> Part:
    rows = [
        Row(**{**row, "published": figures[row["published"]]} if "published" in row else row) for row in table["rows"]
    ]
    if rows[0].model != "popularity":
        raise ValueError(f"{table['name']}: the first row is {rows[0].name}; it must be Popularity.")
    return Part(name=table["name"], protocol=table["protocol"], rows=tuple(rows))
