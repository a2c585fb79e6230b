"""What an event store holds of people's feedback: positive items, comments, and counts of items."""

from dataclasses import dataclass
from typing import Any

import polars as pl
from sqlalchemy import select

from microlens.errors import one_line
from microlens.feed.database import Read, Row
from microlens.feed.item_counts import likes_of_items, views_of_items
from microlens.feed.person import Feedback
from microlens.feed.schema import EVENTS, EXPOSURES, ITEMS
from microlens.feed.settings import FeedbackSettings


@dataclass(frozen=True, kw_only=True)
class FeedRecords:
    """Feedback of all people.

    Attributes:
        positives: columns user, item and timestamp (milliseconds), ordered by time.
        comments: columns user, item and text.
        counts: columns item, likes and views.
        uploads: rows of the uploaded items, in the order of their arrival.
    """

    positives: pl.DataFrame
    comments: pl.DataFrame
    counts: pl.DataFrame
    uploads: list[Row]


def read_records(read: Read, settings: FeedbackSettings) -> FeedRecords:
    """Read what is exported from an event store."""
    positives, comments = positive_items(read(_events_and_exposures()), settings)
    counts = [
        pl.DataFrame(read(statement), {"item": pl.String, "count": pl.Int64}, orient="row").rename({"count": name})
        for name, statement in (("likes", likes_of_items()), ("views", views_of_items()))
    ]
    joined = counts[0].join(counts[1], on="item", how="full", coalesce=True).fill_null(0)
    return FeedRecords(
        positives=positives,
        comments=comments,
        counts=joined.select("item", "likes", "views"),
        uploads=read(select(ITEMS).order_by(ITEMS.c.number)),
    )


def _events_and_exposures() -> Any:
    same = (EXPOSURES.c.request_id == EVENTS.c.request_id) & (EXPOSURES.c.position == EVENTS.c.position)
    shown = EXPOSURES.c.created.label("shown")
    return select(EVENTS, shown).join(EXPOSURES, same).order_by(EVENTS.c.number)


def positive_items(rows: list[Row], settings: FeedbackSettings) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The positive items of people and their comments, from their events in the order of arrival.

    The time of an interaction is that of the event by which the item became positive for good. Clocks of clients may be
    wrong, so that it is kept between the moment the item was shown, and that at which the event arrived.

    Returns:
        Columns user, item and timestamp (milliseconds), ordered by time, and columns user, item and text.
    """
    feedback: dict[tuple[str, str], Feedback] = {}
    since: dict[tuple[str, str], int] = {}
    comments = []
    for row in rows:
        key = (row["person"], row["item"])
        done = feedback.setdefault(key, Feedback())
        done.note(row)
        if done.is_positive(settings):
            since.setdefault(key, min(max(row["at"], row["shown"]), row["received"]))
        else:
            since.pop(key, None)
        if row["kind"] == "comment":
            comments.append((*key, one_line(row["text"], len(row["text"])).replace("\t", " ")))
    positives = [(*key, time) for key, time in since.items()]
    schema = {"user": pl.String, "item": pl.String, "timestamp": pl.Int64}
    frame = pl.DataFrame(positives, schema, orient="row").sort("timestamp", maintain_order=True)
    return frame, pl.DataFrame(comments, {"user": pl.String, "item": pl.String, "text": pl.String}, orient="row")
