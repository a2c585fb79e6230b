"""The people of a feed: who a cookie belongs to, and their states, kept in memory where no other server writes."""

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from itertools import takewhile

from microlens.feed.catalogue import Catalogue
from microlens.feed.event_store import EventStore
from microlens.feed.models import Models
from microlens.feed.person import Person, Session, replay
from microlens.feed.schema import PEOPLE, SESSIONS
from microlens.feed.settings import FeedSettings

MOST_IN_MEMORY = 2000
IDLE_MS = 10 * 60_000  # after which a state is read again when its person comes back
_MOST_SEEN = 10_000


def now_ms() -> int:
    """The time, in ms since 1970."""
    return time.time_ns() // 1_000_000


def new_secret() -> str:
    """A cookie for a new person."""
    return secrets.token_urlsafe(32)


def person_of(secret: str) -> str:
    """The person that a cookie belongs to: a digest, so that the store does not hold what opens the feed."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()[:32]


class People:
    """Loads and keeps the states of people.

    The store is the truth. A state is kept in memory if the store is exclusive, for the people seen last; otherwise
    it is read for every request, because another server may have changed it.
    """

    def __init__(self, store: EventStore, catalogue: Catalogue, models: Models, settings: FeedSettings) -> None:
        self._store, self._catalogue, self._models, self._settings = store, catalogue, models, settings
        self._known: OrderedDict[str, Person] = OrderedDict()
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Person | None]] = {}

    def has_seen(self, person: str) -> bool:
        """True if a person was found lately, which is known without asking the store."""
        return person in self._seen

    @property
    def live(self) -> int:
        """The number of people in memory."""
        return len(self._known)

    def count_since(self, moment: int) -> int:
        """The number of people who were seen after a moment, in ms since 1970."""
        return sum(seen > moment for seen in self._seen.values())

    async def create(self, person: str) -> Person:
        """Add a person."""
        arm = self._models.arm_of(person)
        row = {"person": person, "created": now_ms(), "arm": arm}
        await asyncio.wrap_future(self._store.add(PEOPLE, **row))
        state = Person(person, arm, self._settings.feedback)
        self._keep(state)
        self._note_seen(person)
        return state

    async def begin_session(
        self, state: Person, *, adult: bool, part: int | None = None, arm: str | None = None
    ) -> Session:
        """Add a visit, in a study to one of its parts with the model of that part."""
        session = Session(secrets.token_hex(16), adult, part, arm)
        row = {"session": session.id, "person": state.id, "created": now_ms(), "adult": adult, "part": part, "arm": arm}
        await asyncio.wrap_future(self._store.add(SESSIONS, **row))
        state.begin(session)
        return session

    async def find(self, person: str) -> Person | None:
        """The state of a person, or None if there is no such person."""
        state = await self._find(person)
        if state is not None:
            self._note_seen(person)
        return state

    async def _find(self, person: str) -> Person | None:
        if person in self._known:
            self._known.move_to_end(person)
            return self._known[person]
        if not self._store.exclusive:
            return await asyncio.to_thread(self._load, person)
        if person not in self._loading:
            self._loading[person] = asyncio.create_task(asyncio.to_thread(self._load, person))
        try:
            state = await asyncio.shield(self._loading[person])
        finally:
            self._loading.pop(person, None)
        return None if state is None else self._keep(state)

    def forget(self, person: str) -> None:
        """Drop a state from memory."""
        self._known.pop(person, None)
        self._seen.pop(person, None)

    def _note_seen(self, person: str) -> None:
        self._seen[person] = now_ms()
        self._seen.move_to_end(person)
        if len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)

    def _keep(self, state: Person) -> Person:
        if not self._store.exclusive:
            return state
        state = self._known.setdefault(state.id, state)
        for other in self._to_drop():
            if not other.busy and other is not state:
                del self._known[other.id]
        return state

    def _to_drop(self) -> list[Person]:
        """The states that need not stay in memory: those of people who are idle, and the oldest of too many."""
        known, idle = list(self._known.values()), now_ms() - IDLE_MS
        excess = max(0, len(known) - MOST_IN_MEMORY)
        return [*known[:excess], *takewhile(lambda one: self._seen.get(one.id, 0) < idle, known[excess:])]

    def _load(self, person: str) -> Person | None:
        if self._store.exclusive:
            self._store.flush()
        row = self._store.person(person)
        if row is None:
            return None
        arm = row["arm"] if row["arm"] in self._models.arms else self._models.arm_of(person)
        state = Person(person, None if self._models.interleave else arm, self._settings.feedback)
        for row in self._store.sessions(person):
            state.begin(Session(row["session"], row["adult"], row["part"], row["arm"]))
        replay(state, self._store.exposures(person), self._store.events(person), self._catalogue.number)
        return state
