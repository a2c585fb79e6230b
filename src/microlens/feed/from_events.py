"""A release made of what people did in a feed, which ``microlens data prepare`` reads."""

from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import polars as pl

from microlens.errors import InputError
from microlens.feed.database import Row, reading
from microlens.feed.feedback_records import FeedRecords, read_records
from microlens.feed.settings import FeedSettings
from microlens.files.progress_bar import OnProgress
from microlens.files.writing import check_is_new, renamed_when_complete
from microlens.release.exports.official import write_official
from microlens.release.formats.tables import Tables
from microlens.release.ids import is_text
from microlens.release.whole_release import read_release
from microlens.subsets.subset import Media, link_media, media_of, restricted

_NAME = "feed"


@dataclass(frozen=True, kw_only=True)
class FeedRelease:
    """A release that was written: its users, items and interactions, and how many of these are from the feed.

    ``comments`` are those from the feed, ``media`` the number of media files, and ``unknown`` the number of positive
    items that were left out because neither the release nor the uploads have them.
    """

    users: int
    items: int
    interactions: int
    from_feed: int
    comments: int
    media: int
    unknown: int
    notes: tuple[str, ...]


def release_from_events(
    events: str,
    out: str | Path,
    *,
    release: str | Path | None = None,
    merge: bool = False,
    keep_users: bool = False,
    settings: FeedSettings | None = None,
    on_progress: OnProgress | None = None,
) -> FeedRelease:
    """Write what people did in a feed as a release in the official layout.

    The interactions are the positive items of each person, as the models of the feed read them, at the time at which
    they became positive. Beside them are the comments, likes and views, and the titles, tags and media of the items.
    A server may use the event store meanwhile.

    Args:
        events: the event store, ``sqlite:///PATH`` or ``postgresql://...``.
        out: release folder; must not exist.
        release: the release that was served; its titles, tags, likes, views and media are taken over.
        merge: take over the interactions and comments of ``release``, too; people are users after its users.
        keep_users: call users by the ids of the event store instead of 1, 2, ... in the order of their first
            interaction.
        settings: which feedback is positive, as in the feed.
        on_progress: called with (done, total) media files.

    Raises:
        InputError: ``out`` exists, the store or the release cannot be read, nothing is positive, or the ids or times of
            the release do not allow merging. Nothing is written in these cases.
    """
    out, settings = Path(out), settings or FeedSettings()
    check_is_new(out)
    if merge and release is None:
        raise InputError("there is no release to merge with; name it with --release FOLDER.")
    served = None if release is None else read_release(Path(release))
    with reading(events) as read:
        records = read_records(read, settings.feedback)
    known, unknown = _of_known_items(records, served)
    if known.positives.is_empty():
        raise InputError(f"{events} holds no positive feedback on known items yet.")
    own = restricted(_renamed(known, served, merge=merge, keep_users=keep_users))
    tables = own if served is None else restricted(_with_served(own, served, merge=merge))
    media = [*([] if release is None else media_of(Path(release), tables)), *_uploaded_media(known.uploads, tables)]
    with renamed_when_complete(out, ["[!.]*"]) as folder:
        notes = write_official(tables, folder)
        link_media(media, folder, on_progress)
    return FeedRelease(
        users=tables.events["user"].n_unique(),
        items=tables.events["item"].n_unique(),
        interactions=len(tables.events),
        from_feed=len(own.events),
        comments=0 if own.comments is None else len(own.comments),
        media=len(media),
        unknown=unknown,
        notes=notes,
    )


def _of_known_items(records: FeedRecords, served: Tables | None) -> tuple[FeedRecords, int]:
    """The records of items that the release or the uploads have, and the number of positive items left out."""
    if served is None:
        return records, 0
    uploads = [row["item"] for row in records.uploads]
    known = pl.concat([served.events["item"].unique().cast(pl.String), pl.Series(uploads, dtype=pl.String)])
    kept = {
        name: getattr(records, name).filter(pl.col("item").is_in(known.implode()))
        for name in ("positives", "comments", "counts")
    }
    return replace(records, **kept), len(records.positives) - len(kept["positives"])


def _renamed(records: FeedRecords, served: Tables | None, *, merge: bool, keep_users: bool) -> Tables:
    """The tables of the feed alone, with the ids of users and items that the release will have."""
    people = records.positives["user"].unique(maintain_order=True)
    users = people if keep_users else _numbered(len(people), served if merge else None)
    if merge and served is not None and users.dtype != served.events.schema["user"]:
        raise InputError("the users of the release are integers, with which those of the store cannot be mixed.")
    names = pl.DataFrame({"user": people, "new": users})
    events = records.positives.join(names, on="user", maintain_order="left").with_columns(user="new").drop("new")
    comments = records.comments.join(names, on="user", maintain_order="left")
    uploads = pl.DataFrame(
        [(row["item"], row["title"], row["tag"]) for row in records.uploads],
        {"item": pl.String, "title": pl.String, "tag": pl.String},
        orient="row",
    )
    return Tables(
        name=_NAME,
        files=(),
        events=events.with_columns(_item_ids(events["item"], served)),
        titles=uploads.select("item", "title"),
        tags=uploads.select("item", "tag").filter(pl.col("tag") != ""),
        likes=records.counts,
        comments=comments.with_columns(user=pl.col("new").cast(pl.String)).drop("new"),
    )


def _numbered(people: int, served: Tables | None) -> pl.Series:
    """New ids of people: integers after those of the release, or text if its ids are text."""
    if served is None or served.events.schema["user"] != pl.String:
        first = 1 if served is None else 1 + int(served.events["user"].max() or 0)  # type: ignore[arg-type]
        return pl.Series(range(first, first + people), dtype=pl.Int64)
    taken = set(served.events["user"])
    free = (name for name in (f"{_NAME}-{number}" for number in count(1)) if name not in taken)
    return pl.Series([next(free) for _ in range(people)], dtype=pl.String)


def _item_ids(items: pl.Series, served: Tables | None) -> pl.Series:
    text = served.events.schema["item"] == pl.String if served else any(is_text(item) for item in items)
    return items if text else items.cast(pl.Int64)


def _with_served(tables: Tables, served: Tables, *, merge: bool) -> Tables:
    """The tables of the feed after those of the release."""
    events, comments = tables.events, tables.comments
    if merge:
        if "timestamp" not in served.events.columns:
            raise InputError(f"{served.files[0]} holds no times, so that nothing can be merged with it.")
        events = pl.concat([served.events.select(events.columns), events])
        comments = _concatenated(served.comments, comments)
    likes = _concatenated(served.likes, tables.likes)
    return replace(
        tables,
        name=served.name,
        events=events,
        titles=_titles(served.titles, tables.titles),
        tags=_concatenated(served.tags, tables.tags),
        likes=None if likes is None else likes.group_by("item", maintain_order=True).sum(),
        comments=comments,
    )


def _concatenated(first: pl.DataFrame | None, second: pl.DataFrame | None) -> pl.DataFrame | None:
    if first is None or second is None:
        return first if second is None else second
    return pl.concat([first, second.select(first.columns)])


def _titles(first: pl.DataFrame | None, second: pl.DataFrame | None) -> pl.DataFrame | None:
    """Titles of the release, and of uploads, whose title stands for those in all languages."""
    if first is not None and second is not None:
        second = second.select("item", *(pl.col("title").alias(name) for name in first.columns if name != "item"))
    return _concatenated(first, second)


def _uploaded_media(uploads: list[Row], tables: Tables) -> list[Media]:
    left = set(tables.events["item"].unique().cast(pl.String))
    return [
        (kind, row["item"], Path(row[column]))
        for row in uploads
        for kind, column in (("videos", "path"), ("covers", "cover"))
        if row["item"] in left and row[column] is not None and Path(row[column]).is_file()
    ]
