"""Event stores filled by hand."""

import uuid
from typing import Any

from microlens.feed.event_store import EventStore
from microlens.feed.schema import EVENTS

SHOWN = 1_000_000


def exposure_row(person: str, position: int, item: str = "1") -> dict[str, Any]:
    """A row of the table of exposures."""
    return {
        "request_id": f"request-{person}",
        "position": position,
        "session": "session",
        "person": person,
        "item": item,
        "model": "model@0",
        "reason": "model",
        "score": 0.5,
        "rank": 1,
        "explored": False,
        "propensity": 0.9,
        "arm": None,
        "created": 10 + position,
    }


def event_row(person: str, kind: str = "like", **facts: Any) -> dict[str, Any]:
    """A row of the table of events."""
    row = dict.fromkeys(EVENTS.columns.keys())
    del row["number"]
    fixed = {
        "request_id": f"request-{person}",
        "position": 0,
        "session": "session",
        "item": "1",
        "at": 1,
        "received": 2,
    }
    return {**row, **fixed, "event": uuid.uuid4().hex, "kind": kind, "person": person, **facts}


class Records:
    """Fills an event store; the moments of exposures and events are seconds after the first."""

    def __init__(self, url: str) -> None:
        self.store = EventStore(url)
        self._positions: dict[str, int] = {}

    def show(
        self,
        person: str,
        item: str,
        *events: dict[str, Any],
        second: int = 0,
        arm: str | None = "m",
        why: str = "model",
    ) -> None:
        """Show an item, chosen by a model, and record events about it."""
        position = self._positions[person] = self._positions.get(person, -1) + 1
        moment = SHOWN + 1000 * second
        facts = {"model": f"{arm}@1", "reason": why, "arm": arm, "created": moment}
        self.store.add_exposures([{**exposure_row(person, position, item), **facts}], position)
        same = {"position": position, "item": item, "at": moment, "received": moment + 1000, "duration_ms": 4000}
        rows = [event_row(person, **{**same, **event}) for event in events]
        if rows:
            self.store.add_events(rows).result()


def did(kind: str, **facts: Any) -> dict[str, Any]:
    return {"kind": kind, **facts}


LIKED, WATCHED, SKIPPED = did("like"), did("end", watched_ms=4000), did("end", watched_ms=1000)
