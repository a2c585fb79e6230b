"""What the feed knows of a person: what was shown, what was done, and the history that the model reads."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from microlens.feed.database import Row
from microlens.feed.settings import FeedbackSettings

_FLAGS = {
    "like": ("liked", True),
    "unlike": ("liked", False),
    "favourite": ("favourite", True),
    "unfavourite": ("favourite", False),
    "comment": ("commented", True),
    "share": ("shared", True),
    "not-interested": ("uninterested", True),
}


@dataclass(slots=True)
class Feedback:
    """What a person did with an item."""

    watched: float = 0.0
    liked: bool = False
    favourite: bool = False
    commented: bool = False
    shared: bool = False
    uninterested: bool = False

    def note(self, event: Row) -> None:
        """Add an event, a row of the store."""
        if event["kind"] in _FLAGS:
            name, value = _FLAGS[event["kind"]]
            setattr(self, name, value)
        self.watched = max(self.watched, watched_share(event))

    def is_positive(self, settings: FeedbackSettings) -> bool:
        """True if the item belongs to the history."""
        weight = (
            settings.watched * min(1.0, self.watched)
            + settings.like * self.liked
            + settings.comment * self.commented
            + settings.share * self.shared
            + settings.favourite * self.favourite
        )
        return not self.uninterested and weight >= settings.threshold


@dataclass
class Session:
    """A visit of a person.

    Attributes:
        id: the session.
        adult: whether the person is an adult.
        part: the part of the study that it belongs to.
        arm: the model of that part, instead of the model of the person.
        shown: number of items handed out so far.
        began: when the first of them was.
        picks: how many each model has chosen.
    """

    id: str
    adult: bool
    part: int | None = None
    arm: str | None = None
    shown: int = 0
    began: int | None = None
    picks: Counter[str] = field(default_factory=Counter)
    _seen: int = 0  # bit p for position p, because a person may see thousands of items
    _broken: int = 0

    def note(self, event: Row) -> None:
        """Note an event about one of its items."""
        if event["kind"] == "impression":
            self._seen |= 1 << event["position"]
        elif event["kind"] == "error":
            self._broken |= 1 << event["position"]

    @property
    def seen(self) -> int:
        """The number of items that were seen and could be played."""
        return (self._seen & ~self._broken).bit_count()

    @property
    def unseen(self) -> int:
        """The number of items that were handed out and may still be seen."""
        return self.shown - (self._seen | self._broken).bit_count()


class Person:
    """The state of one person, built by replaying exposures and events in their order.

    Attributes:
        id: the person.
        arm: the model that the person was assigned to.
        exposures: item number and session by request and position.
        shown: numbers of the items shown, the least recently shown first.
        feedback: what was done with each item.
        history: numbers of the positive items, in the order in which they became positive.
        sessions: the visits by id.
        busy: number of requests that hold the state, which must stay in memory meanwhile.
        choosing: held while items are chosen, so that no two requests choose the same.
    """

    def __init__(self, person: str, arm: str | None, settings: FeedbackSettings) -> None:
        self.id = person
        self.arm = arm
        self.exposures: dict[tuple[str, int], tuple[int, str]] = {}
        self.shown: dict[int, None] = {}
        self.feedback: dict[int, Feedback] = {}
        self.history: list[int] = []
        self.sessions: dict[str, Session] = {}
        self.busy = 0
        self.choosing = asyncio.Lock()
        self._settings = settings

    def begin(self, session: Session) -> None:
        """Add a visit."""
        self.sessions[session.id] = session

    def sessions_of(self, part: int) -> list[Session]:
        """The visits of a part of a study."""
        return [session for session in self.sessions.values() if session.part == part]

    def show(self, exposure: Row, number: int) -> None:
        """Note that an item was shown; ``exposure`` is a row of the store."""
        self.exposures[exposure["request_id"], exposure["position"]] = (number, exposure["session"])
        self.shown.pop(number, None)
        self.shown[number] = None
        session = self.sessions.get(exposure["session"])
        if session is not None:
            session.shown = max(session.shown, exposure["position"] + 1)
            session.began = exposure["created"] if session.began is None else session.began
            if exposure["reason"] == "model" and exposure["arm"] is not None:
                session.picks[exposure["arm"]] += 1

    def likes(self, number: int) -> bool:
        """True if the person likes an item."""
        return number in self.feedback and self.feedback[number].liked

    def apply(self, event: Row, number: int) -> None:
        """Note what was done; ``event`` is a row of the store about the item with this number."""
        if event["session"] in self.sessions:
            self.sessions[event["session"]].note(event)
        done = self.feedback.setdefault(number, Feedback())
        done.note(event)
        positive, listed = done.is_positive(self._settings), number in self.history
        if positive and not listed:
            self.history.append(number)
        elif listed and not positive:
            self.history.remove(number)


def watched_share(event: Row) -> float:
    """The share of a video that was watched by an event, at most 1; 0 if it is not known."""
    watched, duration = event["watched_ms"], event["duration_ms"]
    return min(1.0, watched / duration) if watched and duration else 0.0


def replay(person: Person, exposures: list[Row], events: list[Row], number: Callable[[str], int | None]) -> None:
    """Apply rows of the store to a person; rows about items that are not in the catalogue are left out."""
    for exposure in exposures:
        item = number(exposure["item"])
        if item is not None:
            person.show(exposure, item)
    for event in events:
        item = number(event["item"])
        if item is not None:
            person.apply(event, item)
