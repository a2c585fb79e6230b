"""The participants of a study in the event store: invitations, consent, answers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from microlens.errors import InputError
from microlens.feed import schema
from microlens.feed.database import Row, cause, create_folder, open_engine, store_url
from microlens.feed.event_store import EventStore
from microlens.feed.people import new_secret, person_of
from microlens.feed.schema import ANSWERS, PARTICIPANTS, PEOPLE, STUDIES


@dataclass(frozen=True, kw_only=True)
class Participant:
    """A participant.

    Attributes:
        person: who it is in the other tables: the digest of the token of the invitation.
        number: number in the study, from 1.
        order: the models of the parts, empty before the consent; None stands for all of them, interleaved.
        consented: when the participant agreed to take part.
        done: number of parts that are done, the questions at the end included.
        finished: when all was done.
    """

    person: str
    number: int
    order: tuple[str | None, ...]
    consented: int | None
    done: int
    finished: int | None


class Participants:
    """The participants of one study.

    Args:
        store: the event store.
        study: name of the study.
    """

    def __init__(self, store: EventStore, study: str) -> None:
        self._store, self._study = store, study

    def find(self, person: str) -> Participant | None:
        """A participant, or None if nobody of that name was invited to this study."""
        invited = select(PARTICIPANTS).where(PARTICIPANTS.c.person == person, PARTICIPANTS.c.study == self._study)
        return next((_participant(row) for row in self._store.read(invited)), None)

    def is_closed(self) -> bool:
        """True if nobody may begin any more."""
        return bool(self._store.read(select(STUDIES).where(STUDIES.c.study == self._study, STUDIES.c.closed)))

    def close(self, *, closed: bool) -> None:
        """Let nobody begin any more, or open the study again."""
        self._store.put(STUDIES, study=self._study, closed=closed).result()

    def counts(self) -> dict[str, int]:
        """The numbers of those who are invited, have consented and have finished."""
        columns = {"invited": PARTICIPANTS.c.person, "consented": PARTICIPANTS.c.consented}
        counted = [func.count(column).label(name) for name, column in columns.items()]
        counted.append(func.count(PARTICIPANTS.c.finished).label("finished"))
        return dict(self._store.read(select(*counted).where(PARTICIPANTS.c.study == self._study))[0])

    def consent(self, person: str, order: Sequence[str | None], now: int) -> None:
        """Note that a participant takes part, who is a person of the feed from now on; done twice, it counts once."""

        def write(connection: Connection) -> None:
            new = update(PARTICIPANTS).where(PARTICIPANTS.c.person == person, PARTICIPANTS.c.consented.is_(None))
            if connection.execute(new.values(consented=now, order=json.dumps(order))).rowcount:
                connection.execute(insert(PEOPLE).values(person=person, created=now, arm=order[0]))

        self._store.write(write).result()

    def finish_part(self, person: str, part: int, answers: Mapping[str, str], *, finishes: bool, now: int) -> None:
        """Store the answers after a part, which is done then; done twice, the first answers count."""
        rows = [{"person": person, "part": part, "question": name, "answer": text} for name, text in answers.items()]

        def write(connection: Connection) -> None:
            here = update(PARTICIPANTS).where(PARTICIPANTS.c.person == person, PARTICIPANTS.c.done == part)
            done = connection.execute(here.values(done=part + 1, finished=now if finishes else None)).rowcount
            if done and rows:
                connection.execute(insert(ANSWERS), rows)

        self._store.write(write).result()


def _participant(row: Row) -> Participant:
    order = () if row["order"] is None else tuple(json.loads(row["order"]))
    names = ("person", "number", "consented", "done", "finished")
    return Participant(**{name: row[name] for name in names}, order=order)


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """The token that admits a participant, which is nowhere else; the event store holds its digest."""

    number: int
    token: str


def invite(events: str, study: str, count: int) -> list[Invitation]:
    """Add participants to a study, whose numbers follow those that are there; a server may use the store meanwhile.

    Args:
        events: the event store, which is created if it is not there.
        study: name of the study.
        count: how many.

    Raises:
        InputError: the store cannot be opened or written.
    """
    url = store_url(events)
    create_folder(url)
    engine = open_engine(url)
    tokens = [new_secret() for _ in range(count)]
    try:
        with engine.begin() as connection:
            schema.upgrade(connection)
            last = select(func.max(PARTICIPANTS.c.number)).where(PARTICIPANTS.c.study == study)
            first = 1 + (connection.scalar(last) or 0)
            people = [{"person": person_of(token), "study": study, "done": 0} for token in tokens]
            rows = [{**row, "number": number} for number, row in enumerate(people, first)]
            connection.execute(insert(PARTICIPANTS), rows)
    except SQLAlchemyError as error:
        raise InputError(f"the event store {url.render_as_string()} cannot be written: {cause(error)}.") from None
    finally:
        engine.dispose()
    return [Invitation(number=number, token=token) for number, token in enumerate(tokens, first)]
