"""Checks of the tables of a release: items without content, rows about other items, impossible values."""

import time
from collections.abc import Iterator

import polars as pl

from microlens.release.ids import Id
from microlens.verification.contents import Contents
from microlens.verification.findings import Case, Finding, grouped, note
from microlens.verification.mapping import is_timed
from microlens.verification.media_files import CheckedFile

EARLIEST = 1_262_304_000_000
"""2010-01-01 in milliseconds; no micro-video platform is older."""
LONGEST_HOURS = 2.0
_DAY = 86_400_000
_SAMPLE = 0.5
_NAMES = {"clips": "video", "covers": "cover", "sound": "sound file"}
_TEXTS = {"titles": ("title", "title"), "tags": ("tag", "tag")}


def check_completeness(contents: Contents) -> list[Finding]:
    """Items that lack a kind of content that the release has, and content of items without interactions.

    A kind of content that fewer than half of the items have is a sample, as of a download of some items, and no fault.
    """
    items = contents.item_ids
    there = {_NAMES[kind]: set(files.by_item) for kind, files in contents.media.items() if files.by_item}
    for part, (name, column) in _TEXTS.items():
        if part in contents.tables:
            there[name] = set(_with_text(contents.tables[part].table, column))
    if "likes" in contents.tables:
        there["likes and views"] = set(contents.tables["likes"].table["item_id"].to_list())
    lacking = {name: [item for item in items if item not in own] for name, own in there.items()}
    samples = [name for name, without in lacking.items() if len(without) > _SAMPLE * len(items)]
    missing = [
        (f"items without a {name}", Case(item=item, why=f"no {name}"))
        for name, without in lacking.items()
        for item in without
        if name not in samples
    ]
    partial = [
        Case(why=f"{len(items) - len(lacking[name]):,} of {len(items):,} items have a {name}") for name in samples
    ]
    known = set(items)
    surplus = [
        (f"{name} of an item without interactions", Case(item=item, why="has no interactions"))
        for name, own in there.items()
        for item in sorted(own - known, key=lambda one: (isinstance(one, str), one))
    ]
    unused = [
        Case(file=file, why=why)
        for files in contents.media.values()
        for (_, why), names in files.unused.items()
        for file in names
    ]
    return [
        *grouped("completeness", missing),
        *note("completeness", "samples", partial),
        *grouped("completeness", surplus, is_fault=False),
        *note("files", "not read", unused),
    ]


def check_values(contents: Contents, now: float | None = None) -> list[Finding]:
    """Views below likes, negative numbers, and times before 2010 or in the future.

    Args:
        contents: the release.
        now: the present, in seconds since 1970; the clock's by default.
    """
    cases: list[tuple[str, Case]] = []
    if "likes" in contents.tables:
        cases += _likes(contents.tables["likes"].table)
    if is_timed(contents.pairs.events):
        cases += _times(contents.pairs.with_ids(), (time.time() if now is None else now) * 1000 + _DAY)
    return grouped("values", cases)


def check_durations(videos: list[tuple[Id, CheckedFile]]) -> list[Finding]:
    """Videos that last no time, or longer than any micro-video."""
    cases: list[tuple[str, Case]] = []
    for item, video in videos:
        seconds = video.info.get("duration")
        if seconds is None:
            continue
        if seconds <= 0:
            cases.append(("videos of no duration", Case(item=item, file=video.name, why="lasts 0 s")))
        elif seconds > LONGEST_HOURS * 3600:
            why = f"lasts {seconds / 3600:.1f} hours"
            cases.append((f"videos of more than {LONGEST_HOURS:g} hours", Case(item=item, file=video.name, why=why)))
    return grouped("values", cases)


def _with_text(table: pl.DataFrame, column: str) -> list[Id]:
    filled = table.filter(pl.col(column).fill_null("").str.strip_chars() != "")
    return filled["item_id"].to_list()


def _likes(table: pl.DataFrame) -> Iterator[tuple[str, Case]]:
    for item, likes, views in table.filter(pl.col("views") < pl.col("likes")).iter_rows():
        yield "fewer views than likes", Case(item=item, why=f"{views:,} views, {likes:,} likes")
    for item, likes, views in table.filter((pl.col("views") < 0) | (pl.col("likes") < 0)).iter_rows():
        yield "negative likes or views", Case(item=item, why=f"{views:,} views, {likes:,} likes")


def _times(events: pl.DataFrame, latest: float) -> Iterator[tuple[str, Case]]:
    for kind, wrong in (
        ("interactions before 2010", pl.col("timestamp") < EARLIEST),
        ("interactions in the future", pl.col("timestamp") > latest),
    ):
        for user, item, stamp in events.filter(wrong).iter_rows():
            yield kind, Case(item=item, why=f"user {user} at {stamp:,} ms since 1970")
