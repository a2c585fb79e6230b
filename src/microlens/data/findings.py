"""Collecting facts about a dataset while it is written, for its tables and manifest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

import microlens
from microlens.data.dataset import ITEM_COLUMNS
from microlens.data.given_labels import write_labels
from microlens.data.interactions_writer import EXAMPLES, Described
from microlens.data.manifest import FORMAT_VERSION
from microlens.data.parquet_tables import write_table
from microlens.data.protocol import Protocol
from microlens.data.source import Source, Table
from microlens.files.writing import digest_of
from microlens.media.decoding import Outcome, Settings
from microlens.release.folder import MEDIA
from microlens.release.given_split import GivenSplit
from microlens.release.ids import Id
from microlens.release.media_files import MediaFiles

_OF_VIDEOS = ("duration", "width", "height", "fps", "codec")
_TOLD = ("title", "tag", "likes", "views")  # optional columns of item tables


@dataclass(kw_only=True)
class Findings:
    """Writes the tables of a dataset into the unfinished ``folder`` and collects its manifest.

    Call the methods in the order in which they are defined.
    """

    folder: Path
    described: Described
    item_ids: pl.Series
    dropped: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def drop(self, what: str, count: int, why: str, examples: list[Any] | None = None) -> None:
        """Record that ``count`` of ``what`` are dropped, and why."""
        if count:
            self.dropped.append({"what": what, "count": count, "why": why, "examples": (examples or [])[:EXAMPLES]})

    @cached_property
    def keys(self) -> dict[Id, int]:
        """The key of each item by its id, in ascending order."""
        ids = self.item_ids.to_list()
        return dict(zip(ids, range(1, len(ids) + 1) if self.described.text_ids.item else ids, strict=True))

    def tell_of_interactions(self) -> None:
        """Record what is dropped of the interactions, and how they were read."""
        protocol, found = Protocol(), self.described
        self.notes += found.notes
        self.drop("interactions", found.repeated, "a later repeat of the same user and item")
        why = f"fewer than {protocol.min_length} items; left out by the paper's protocol"
        self.drop("users", found.short, why, found.short_users)

    def join_items(self, tables: list[Table]) -> None:
        """Join the tables of items."""
        ids = self.item_ids
        items = pl.DataFrame({"item_id": ids}).with_row_index("item", offset=1)
        for table in tables:
            if table.fills:
                items = self._fill_titles(items, table)
                continue
            self._count_leftovers(table, ids)
            items = items.join(table.metadata.table, on="item_id", how="left", maintain_order="left")
        missing = [pl.lit(None, ITEM_COLUMNS[name]).alias(name) for name in _TOLD if name not in items.columns]
        by_language = [name for name in items.columns if name.startswith("title_")]
        self.items = items.with_columns(missing).select("item", "item_id", *_TOLD, *by_language)

    def _fill_titles(self, items: pl.DataFrame, table: Table) -> pl.DataFrame:
        """Fill blank titles from those of another set, if most titles that both have are equal."""
        told = items["title"].fill_null("").str.strip_chars()
        others = items.select("item_id").join(table.metadata.table, on="item_id", how="left", maintain_order="left")
        given = others["title"].fill_null("").str.strip_chars()
        both, filled = (told != "") & (given != ""), (told == "") & (given != "")
        equal = int((told == given).filter(both).sum())
        if 2 * equal <= both.sum():
            same = f"they equal those of this release for {equal:,} of {both.sum():,} items"
            self.notes.append(f"{table.name}: its titles are not used to fill blank ones, because {same}")
            return items
        self.notes.append(f"{table.name}: blank titles filled from it: {filled.sum():,}")
        return items.with_columns(items["title"].zip_with(~filled, given))

    def write_comments(self, comments: Table | None) -> None:
        """Write the comments on known items, if there are any."""
        if comments is not None:
            self._count_leftovers(comments, self.items["item_id"])
            known = comments.metadata.table.filter(pl.col("item_id").is_in(self.items["item_id"].implode()))
            write_table([known], self.folder / "comments.parquet")

    def write_split(self, given: GivenSplit | None) -> None:
        """Write the split that the interactions came with, if there is one."""
        if given is not None:
            self.notes.append(given.note)
            write_labels(given, self.folder, self.items["item_id"])

    def _count_leftovers(self, table: Table, ids: pl.Series) -> None:
        rows, metadata = f"{table.rows} of {table.name}", table.metadata
        self.notes += metadata.notes
        unknown = metadata.table.filter(~pl.col("item_id").is_in(ids.implode()))["item_id"]
        self.drop(rows, metadata.unreadable, "could not be read, or repeat an item")
        self.drop(f"numbers of {table.name}", metadata.emptied, "no 64-bit integers; left empty")
        self.drop(rows, len(unknown), "items without interactions", unknown.head(EXAMPLES).to_list())

    def name_unused(self, source: Source, media: Mapping[str, MediaFiles]) -> None:
        """Record the unused files of the source."""
        for unused in source.unused:
            self.drop(unused.what, len(unused.names), unused.why, unused.names)
        for kind, files in media.items():
            for (suffix, why), names in files.unused.items():
                self.drop(f"{suffix or 'other'} files of {MEDIA[kind][0]}", len(names), why, names)

    def write_items(self, outcomes: list[Outcome], media: Mapping[str, MediaFiles]) -> None:
        """Write the table of items, with the outcomes of decoding their media files."""
        ids = {key: item for item, key in self.keys.items()}
        self.outcomes = [replace(outcome, path=_name(ids[outcome.item_id], outcome, media)) for outcome in outcomes]
        columns = _media_columns(list(ids), self.outcomes)
        write_table([self.items.with_columns(columns)], self.folder / "items.parquet")

    def manifest(self, source: Source, settings: Settings, request: dict[str, Any]) -> dict[str, Any]:
        """Return the manifest."""
        ids = {key: item for item, key in self.keys.items()}
        sources: list[dict[str, Any]] = [asdict(origin) for origin in source.origins]
        files = {(outcome.path, outcome.bytes, outcome.sha256) for outcome in self.outcomes}
        sources += [{"path": path, "bytes": size, "sha256": digest} for path, size, digest in sorted(files)]
        identity = [FORMAT_VERSION, sorted((one["path"], one["sha256"]) for one in sources), asdict(settings)]
        text_ids = asdict(self.described.text_ids)
        kinds = {name: "string" if text else "int64" for name, text in text_ids.items()}
        return {
            "format_version": FORMAT_VERSION,
            "name": source.name,
            "microlens": microlens.__version__,
            "checksum": digest_of(identity),
            **({"ids": kinds} if any(text_ids.values()) else {}),
            "counts": self._counts(),
            "settings": asdict(settings),
            "dropped": self.dropped,
            "notes": self.notes,
            "faults": [
                {
                    "item": ids[outcome.item_id],
                    "file": outcome.path,
                    "kind": outcome.kind,
                    "lost": not outcome.stored,
                    "fault": fault,
                }
                for outcome in self.outcomes
                for fault in outcome.faults
            ],
            "sources": sources,
            "request": request,
        }

    def _counts(self) -> dict[str, Any]:
        return {
            "release": asdict(self.described.sizes),
            "paper_protocol": asdict(self.described.kept),
            "out_of_order": self.described.out_of_order,
            **{kind: sum(outcome.kind == kind and outcome.stored for outcome in self.outcomes) for kind in MEDIA},
        }


def _name(item: Id, outcome: Outcome, media: Mapping[str, MediaFiles]) -> str:
    """The name of the file that was decoded."""
    heard_in_video = outcome.kind == "sound" and item not in media["sound"].by_item
    return media["clips" if heard_in_video else outcome.kind].names[item]


def _media_columns(keys: list[int], outcomes: list[Outcome]) -> list[pl.Series]:
    """What decoding tells about the items ``keys`` (N,): columns (N,) of :data:`ITEM_COLUMNS`."""
    told: dict[int, dict[str, Any]] = {}
    for outcome in outcomes:
        row = told.setdefault(outcome.item_id, {"key": outcome.item_id, "faults": []})
        row[outcome.kind] = outcome.stored or row.get(outcome.kind, False)
        row["faults"] += (f"{outcome.kind}: {fault}" for fault in outcome.faults)
        if outcome.kind == "clips":
            row |= {name: outcome.info.get(name) for name in _OF_VIDEOS}
    types = {name: ITEM_COLUMNS[name] for name in (*MEDIA, *_OF_VIDEOS, "faults")}
    rows = pl.DataFrame(list(told.values()), {"key": pl.Int64(), **types})
    # A join, because a list of faults made item by item is slow where most have none.
    columns = pl.DataFrame({"key": keys}).join(rows, on="key", how="left", maintain_order="left").drop("key")
    absent = {**dict.fromkeys(MEDIA, False), "faults": []}
    return columns.with_columns(
        pl.col(name).fill_null(pl.lit(value, types[name])) for name, value in absent.items()
    ).get_columns()
