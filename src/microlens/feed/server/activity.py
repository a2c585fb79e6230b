"""What happened on a server lately, for its operator."""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from microlens.feed.database import Row

MINUTE_MS = 60_000
LIVE_MS = 5 * MINUTE_MS
_MOST_SESSIONS = 10_000
_MOST_ERRORS = 50


@dataclass(frozen=True, kw_only=True)
class LiveSession:
    """A visit: the model of its last item, its items and events so far, and when the last of either was."""

    session: str
    person: str
    model: str = ""
    items: int = 0
    events: int = 0
    seen: int = 0


@dataclass(frozen=True, kw_only=True)
class PageError:
    """An item that a page could not play, and why; ``at`` is when the report arrived."""

    item: str
    reason: str
    at: int


class Activity:
    """Sessions, rates and errors, in memory and limited in number; other servers on the same store have their own.

    Attributes:
        exposures: number of items that each model has chosen since the start.
        errors: what pages reported last, the newest first.
    """

    def __init__(self) -> None:
        self.exposures: Counter[str] = Counter()
        self.errors: deque[PageError] = deque(maxlen=_MOST_ERRORS)
        self._sessions: OrderedDict[str, LiveSession] = OrderedDict()
        self._seconds: deque[tuple[int, int]] = deque(maxlen=MINUTE_MS // 1000 + 1)  # and the events in each

    def note_exposures(self, rows: Iterable[Row]) -> None:
        """Note items that were handed out; rows of the store."""
        for row in rows:
            self.exposures[row["model"]] += 1
            self._note(row, seen=row["created"], model=row["model"], items=1)

    def note_events(self, rows: Iterable[Row]) -> None:
        """Note events that were stored; rows of the store."""
        for row in rows:
            self._count(row["received"])
            self._note(row, seen=row["received"], events=1)
            if row["kind"] == "error":
                self.errors.appendleft(PageError(item=row["item"], reason=row["text"] or "", at=row["received"]))

    def sessions(self, now: int) -> list[LiveSession]:
        """The visits in which something was done in the last five minutes, the latest first."""
        return [one for one in reversed(self._sessions.values()) if one.seen > now - LIVE_MS]

    def events_a_minute(self, now: int) -> int:
        """The number of events stored in the last minute."""
        return sum(count for second, count in self._seconds if 1000 * second > now - MINUTE_MS)

    def _count(self, moment: int) -> None:
        second, count = self._seconds.pop() if self._seconds else (moment // 1000, 0)
        if second < moment // 1000:
            self._seconds.append((second, count))
            second, count = moment // 1000, 0
        self._seconds.append((second, count + 1))

    def _note(self, row: Row, *, seen: int, model: str = "", items: int = 0, events: int = 0) -> None:
        known = self._sessions.pop(row["session"], None) or LiveSession(session=row["session"], person=row["person"])
        self._sessions[known.session] = LiveSession(
            session=known.session,
            person=known.person,
            model=model or known.model,
            items=known.items + items,
            events=known.events + events,
            seen=max(seen, known.seen),
        )
        if len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
