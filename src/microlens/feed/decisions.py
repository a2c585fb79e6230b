"""The decisions of a feed: what it chose, with which probability, what it knew of the person, and what came of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from sqlalchemy import select

from microlens.feed.database import Read, Row
from microlens.feed.person import Feedback, Person
from microlens.feed.schema import EVENTS, EXPOSURES, SESSIONS
from microlens.feed.settings import FeedbackSettings

CHOSEN = ("model", "popular", "explored")
"""The reasons of exposures that were drawn: not pinned, opened by a link, or shown again."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """An exposure that a policy has drawn and a person has seen.

    Attributes:
        person: the person.
        session: the visit.
        position: position of the item in the visit, from 0.
        adult: whether the visit was that of an adult.
        item: id of the item that was chosen.
        propensity: the probability that the policy had for it.
        reason: why it was chosen: model, popular or explored.
        model: the model that was serving.
        rank: rank of the item among all by that model, from 1; None for a person without history.
        history: ids of the positive items at that moment, in the order in which they became positive.
        shown: ids of the items that had been shown to the person, the least recently shown first.
        outcome: what the person did with it.
    """

    person: str
    session: str
    position: int
    adult: bool
    item: str
    propensity: float
    reason: str
    model: str
    rank: int | None
    history: tuple[str, ...]
    shown: tuple[str, ...]
    outcome: Feedback


def read_decisions(read: Read, settings: FeedbackSettings) -> Iterator[Decision]:
    """The decisions of all people, those of a person in their order.

    A person's history at a decision is made of the events that had arrived by then, to the millisecond.

    Args:
        read: reads the event store.
        settings: which feedback is positive.
    """
    adults = {row["session"] for row in read(select(SESSIONS).where(SESSIONS.c.adult))}
    events: dict[str, list[Row]] = {}
    for event in read(select(EVENTS).order_by(EVENTS.c.number)):
        events.setdefault(event["person"], []).append(event)
    order = (EXPOSURES.c.person, EXPOSURES.c.created, EXPOSURES.c.position)
    for person, exposures in groupby(read(select(EXPOSURES).order_by(*order)), itemgetter("person")):
        yield from _of_person(Person(person, None, settings), list(exposures), events.get(person, []), adults)


def _of_person(person: Person, exposures: Sequence[Row], events: Sequence[Row], adults: set[str]) -> Iterator[Decision]:
    items = list({row["item"]: None for row in exposures})
    numbers = {item: number for number, item in enumerate(items)}
    outcomes = _outcomes(events)
    arrived = 0
    for row in exposures:
        while arrived < len(events) and events[arrived]["received"] <= row["created"]:
            person.apply(events[arrived], numbers[events[arrived]["item"]])
            arrived += 1
        key = row["request_id"], row["position"]
        if row["reason"] in CHOSEN and key in outcomes:
            yield Decision(
                person=person.id,
                adult=row["session"] in adults,
                history=tuple(items[number] for number in person.history),
                shown=tuple(items[number] for number in person.shown),
                outcome=outcomes[key],
                **{
                    name: row[name] for name in ("session", "position", "item", "propensity", "reason", "model", "rank")
                },
            )
        person.show(row, numbers[row["item"]])


def _outcomes(events: Sequence[Row]) -> dict[tuple[str, int], Feedback]:
    """What became of each exposure that has events, by request and position."""
    found: dict[tuple[str, int], Feedback] = {}
    for event in events:
        found.setdefault((event["request_id"], event["position"]), Feedback()).note(event)
    return found
