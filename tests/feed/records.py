"""Event stores filled by hand."""

import uuid
from typing import Any

from microlens.feed.event_store import EventStore

SHOWN = 1_000_000


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
        same = {"request_id": f"of-{person}", "position": position, "session": person, "person": person, "item": item}
        moment = SHOWN + 1000 * second
        chosen = {"model": f"{arm}@1", "reason": why, "explored": False, "propensity": 1.0, "score": 0.0, "rank": 1}
        self.store.add_exposures([{**same, **chosen, "arm": arm, "created": moment}], position)
        rows = [
            {
                **same, "event": uuid.uuid4().hex, "at": moment, "received": moment + 1000, "watched_ms": None,
                "duration_ms": 4000, "loops": None, "text": None, **event,
            }
            for event in events
        ]  # fmt: skip
        if rows:
            self.store.add_events(rows).result()


def did(kind: str, **facts: Any) -> dict[str, Any]:
    return {"kind": kind, **facts}


LIKED, WATCHED, SKIPPED = did("like"), did("end", watched_ms=4000), did("end", watched_ms=1000)
