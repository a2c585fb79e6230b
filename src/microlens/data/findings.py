"""Collecting facts about a dataset while it is written, for its tables and manifest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

import microlens
from microlens.data.dataset import ITEM_COLUMNS
from microlens.data.given_labels import write_labels
from microlens.data.interactions import Interactions
from microlens.data.manifest import FORMAT_VERSION
from microlens.data.protocol import Protocol
from microlens.data.source import Source, Table
from microlens.data.split import Split
from microlens.files.writing import digest_of
from microlens.media.decoding import Outcome, Settings
from microlens.release.folder import MEDIA
from microlens.release.given_split import GivenSplit
from microlens.release.ids import Id
from microlens.release.media_files import MediaFiles
from microlens.release.pairs import Pairs

EXAMPLES = 10  # number of dropped elements named in the manifest
_TOLD = ("title", "tag", "likes", "views")  # optional columns of item tables


@dataclass(kw_only=True)
class Findings:
    """Writes the tables of a dataset into the unfinished ``folder`` and collects its manifest.

    Call the methods in the order in which they are defined.
    """

    folder: Path
    pairs: Pairs
    interactions: Interactions
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
        keys = self.interactions.item_ids[1:].tolist()
        ids = keys if self.pairs.item_ids is None else self.pairs.item_ids.to_list()
        return dict(zip(ids, keys, strict=True))

    def write_interactions(self) -> None:
        """Write the tables of interactions and users."""
        protocol = Protocol()
        self.notes += self.pairs.notes
        self.interactions.write(self.folder / "interactions")
        events = self.pairs.with_ids()
        _write_table(events, self.folder / "interactions.parquet")
        users = events.group_by("user").len("num_interactions").sort("user").rename({"user": "user_id"})
        _write_table(users, self.folder / "users.parquet")
        short = users.filter(pl.col("num_interactions") < protocol.min_length)["user_id"]
        self.drop("interactions", self.pairs.repeated, "a later repeat of the same user and item")
        why = f"fewer than {protocol.min_length} items; left out by the paper's protocol"
        self.drop("users", len(short), why, short.head(EXAMPLES).to_list())

    def join_items(self, tables: list[Table]) -> None:
        """Join the tables of items."""
        ids = pl.Series("item_id", list(self.keys), pl.Int64 if self.pairs.item_ids is None else pl.String)
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
            _write_table(known, self.folder / "comments.parquet")

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
        _write_table(self.items.with_columns(columns), self.folder / "items.parquet")

    def manifest(self, source: Source, split: Split, settings: Settings, request: dict[str, Any]) -> dict[str, Any]:
        """Return the manifest; ``split`` is the split under the paper's protocol."""
        ids = {key: item for item, key in self.keys.items()}
        sources: list[dict[str, Any]] = [asdict(origin) for origin in source.origins]
        files = {(outcome.path, outcome.bytes, outcome.sha256) for outcome in self.outcomes}
        sources += [{"path": path, "bytes": size, "sha256": digest} for path, size, digest in sorted(files)]
        identity = [FORMAT_VERSION, sorted((one["path"], one["sha256"]) for one in sources), asdict(settings)]
        text_ids = asdict(self.pairs.text_ids)
        kinds = {name: "string" if text else "int64" for name, text in text_ids.items()}
        return {
            "format_version": FORMAT_VERSION,
            "name": source.name,
            "microlens": microlens.__version__,
            "checksum": digest_of(identity),
            **({"ids": kinds} if any(text_ids.values()) else {}),
            "counts": self._counts(split),
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

    def _counts(self, split: Split) -> dict[str, Any]:
        tables = (("release", self.interactions), ("paper_protocol", split))
        return {
            **{
                name: {"users": events.num_users, "items": events.num_items, "interactions": events.num_events}
                for name, events in tables
            },
            "out_of_order": self.pairs.out_of_order,
            **{kind: sum(outcome.kind == kind and outcome.stored for outcome in self.outcomes) for kind in MEDIA},
        }


def _write_table(table: pl.DataFrame, path: Path) -> None:
    # Through memory, because polars does not report a full disk as OSError.
    content = BytesIO()
    table.write_parquet(content)
    path.write_bytes(content.getbuffer())


def _name(item: Id, outcome: Outcome, media: Mapping[str, MediaFiles]) -> str:
    """The name of the file that was decoded."""
    heard_in_video = outcome.kind == "sound" and item not in media["sound"].by_item
    return media["clips" if heard_in_video else outcome.kind].names[item]


def _media_columns(keys: list[int], outcomes: list[Outcome]) -> list[pl.Series]:
    columns = []
    for kind in MEDIA:
        stored = {outcome.item_id for outcome in outcomes if outcome.kind == kind and outcome.stored}
        columns.append(pl.Series(kind, [key in stored for key in keys], pl.Boolean))
    info = {outcome.item_id: outcome.info for outcome in outcomes if outcome.kind == "clips"}
    columns += [
        pl.Series(name, [info.get(key, {}).get(name) for key in keys], ITEM_COLUMNS[name])
        for name in ("duration", "width", "height", "fps", "codec")
    ]
    faults: dict[int, list[str]] = {}
    for outcome in outcomes:
        faults.setdefault(outcome.item_id, []).extend(f"{outcome.kind}: {fault}" for fault in outcome.faults)
    columns.append(pl.Series("faults", [faults.get(key, []) for key in keys], ITEM_COLUMNS["faults"]))
    return columns
