"""The database of a feed: people, exposures, events, uploads and rules. What is acknowledged is durable first."""

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from microlens.errors import InputError
from microlens.feed import schema
from microlens.feed.database import Row, cause, create_folder, is_sqlite, open_engine, read_rows, store_url
from microlens.feed.group_commit import GroupCommit, StoreUnavailableError, Write, is_unavailable
from microlens.feed.schema import (
    ANSWERS,
    EVENTS,
    EXPOSURES,
    ITEMS,
    MODELS,
    PARTICIPANTS,
    PEOPLE,
    RULES,
    SESSIONS,
    VECTORS,
)
from microlens.files.writing import lock_folder


class ConflictError(Exception):
    """Another server has shown something to the same person meanwhile."""


class EventStore:
    """A SQLite file (in WAL mode, for one server) or a PostgreSQL database (for several).

    Writes return futures that are resolved after the commit. Reads see everything that was committed.

    Args:
        url: ``sqlite:///PATH``, ``postgresql://...``, or the path of a SQLite file.

    Attributes:
        exclusive: True if no other server uses the store, so that its content can be kept in memory.

    Raises:
        InputError: the URL is not accepted, the database cannot be opened, another server has opened the file, or its
            schema is that of a later version.
    """

    def __init__(self, url: str) -> None:
        self.url = store_url(url)
        self.exclusive = is_sqlite(self.url)
        self._closing = ExitStack()
        try:
            self._engine = self._open()
            self._closing.callback(self._engine.dispose)
            with self._engine.begin() as connection:
                schema.upgrade(connection)
        except SQLAlchemyError as error:
            self._closing.close()
            raise InputError(
                f"the event store {self.url.render_as_string()} cannot be opened: {cause(error)}."
            ) from None
        except InputError:
            self._closing.close()
            raise
        self._commits = GroupCommit(self._engine)

    def close(self) -> None:
        """Commit what is left, and close the database."""
        self._commits.close()
        self._closing.close()

    def _open(self) -> Engine:
        if self.exclusive:
            self._lock()
        return open_engine(self.url)

    def _lock(self) -> None:
        folder = create_folder(self.url)
        try:
            self._closing.enter_context(lock_folder(folder))
        except InputError:
            raise InputError(
                f"another server uses the event store in {folder}; name another file with --events, or a PostgreSQL "
                f"database, which serves several."
            ) from None

    # Writing

    def write(self, write: Write) -> "Future[Any]":
        """Run a write, which must be repeatable, in a transaction."""
        return self._commits.submit(write)

    def add(self, table: Any, **values: Any) -> "Future[None]":
        """Add a row."""
        return self._commits.submit(lambda connection: _no_result(connection.execute(insert(table).values(values))))

    def put(self, table: Any, **values: Any) -> "Future[None]":
        """Add a row, or replace the one with the same key."""
        keys = [column.name for column in table.primary_key]
        others = {name: value for name, value in values.items() if name not in keys}
        statement = self._insert(table).values(values).on_conflict_do_update(index_elements=keys, set_=others)
        return self._commits.submit(lambda connection: _no_result(connection.execute(statement)))

    def add_exposures(self, rows: Sequence[Row], known: int) -> "Future[None]":
        """Add exposures of one person, to whom ``known`` exposures are known.

        An exclusive store keeps the order of its writes, so nobody has to wait: an event is never committed before its
        exposure. Otherwise the future raises :class:`ConflictError` if the person has other exposures by now.
        """
        if self.exclusive:
            statement = self._insert(EXPOSURES).on_conflict_do_nothing()
            self._commits.later(lambda connection: connection.execute(statement, rows))
            done: Future[None] = Future()
            done.set_result(None)
            return done
        return self._commits.submit(lambda connection: _add_if_unchanged(connection, rows, known))

    def add_events(self, rows: Sequence[Row]) -> "Future[list[Row]]":
        """Add events; the future has those that had not been stored before."""
        return self._commits.submit(lambda connection: self._add_new(connection, rows))

    def _add_new(self, connection: Connection, rows: Sequence[Row]) -> list[Row]:
        ids = [row["event"] for row in rows]
        present = set(connection.scalars(select(EVENTS.c.event).where(EVENTS.c.event.in_(ids))))
        new = {row["event"]: row for row in rows if row["event"] not in present}
        if new:
            connection.execute(self._insert(EVENTS).on_conflict_do_nothing(), list(new.values()))
        return list(new.values())

    def _insert(self, table: Any) -> Any:
        return sqlite.insert(table) if self.exclusive else postgresql.insert(table)

    def delete_person(self, person: str) -> "Future[None]":
        """Delete everything that is known of a person; uploads stay, without the person."""

        def write(connection: Connection) -> None:
            for table in (EVENTS, EXPOSURES, SESSIONS, ANSWERS, PARTICIPANTS, PEOPLE):
                connection.execute(delete(table).where(table.c.person == person))
            connection.execute(update(ITEMS).where(ITEMS.c.person == person).values(person=None))

        return self._commits.submit(write)

    def flush(self) -> None:
        """Wait until everything submitted so far is committed.

        Raises:
            StoreUnavailableError: it cannot be committed now.
        """
        self._commits.submit(lambda connection: connection.execute(text("SELECT 1")).scalar()).result()

    # Reading

    def read(self, statement: Any) -> list[Row]:
        """The rows of a query.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        try:
            return read_rows(self._engine, statement)
        except SQLAlchemyError as error:
            if is_unavailable(error):
                raise StoreUnavailableError(str(error)) from error
            raise

    def person(self, person: str) -> Row | None:
        """The row of a person."""
        return next(iter(self.read(select(PEOPLE).where(PEOPLE.c.person == person))), None)

    def sessions(self, person: str) -> list[Row]:
        """The sessions of a person, oldest first."""
        return self.read(select(SESSIONS).where(SESSIONS.c.person == person).order_by(SESSIONS.c.created))

    def exposures(self, person: str) -> list[Row]:
        """The exposures of a person, oldest first."""
        mine = select(EXPOSURES).where(EXPOSURES.c.person == person)
        return self.read(mine.order_by(EXPOSURES.c.created, EXPOSURES.c.position))

    def events(self, person: str) -> list[Row]:
        """The events of a person, in the order of their arrival."""
        return self.read(select(EVENTS).where(EVENTS.c.person == person).order_by(EVENTS.c.number))

    def comments(self, item: str, before: int | None, limit: int) -> list[Row]:
        """The last comments on an item, newest first, with numbers below ``before``."""
        found = select(EVENTS).where(EVENTS.c.item == item, EVENTS.c.kind == "comment")
        found = found if before is None else found.where(EVENTS.c.number < before)
        return self.read(found.order_by(EVENTS.c.number.desc()).limit(limit))

    def totals(self) -> dict[str, Any]:
        """The numbers of people, sessions and exposures, and of events of each kind."""
        tables = {"people": PEOPLE, "sessions": SESSIONS, "exposures": EXPOSURES}
        counts: dict[str, Any] = {
            name: self.read(select(func.count().label("count")).select_from(table))[0]["count"]
            for name, table in tables.items()
        }
        kinds = self.read(select(EVENTS.c.kind, func.count().label("count")).group_by(EVENTS.c.kind))
        return {**counts, "events": {row["kind"]: row["count"] for row in kinds}}

    def uploads(self) -> list[Row]:
        """The uploaded items, in the order of their arrival."""
        return self.read(select(ITEMS).order_by(ITEMS.c.number))

    def vectors(self, digest: str) -> dict[str, bytes]:
        """The vectors of uploaded items by the model with this digest."""
        rows = self.read(select(VECTORS.c.item, VECTORS.c.vector).where(VECTORS.c.digest == digest))
        return {row["item"]: row["vector"] for row in rows}

    def rules(self) -> list[Row]:
        """The rules of the operator."""
        return self.read(select(RULES))

    def models(self) -> list[Row]:
        """The models that were loaded, oldest first."""
        return self.read(select(MODELS).order_by(MODELS.c.number))


def _add_if_unchanged(connection: Connection, rows: Sequence[Row], known: int) -> None:
    person = rows[0]["person"]
    connection.execute(select(PEOPLE.c.person).where(PEOPLE.c.person == person).with_for_update())
    count = connection.scalar(select(func.count()).select_from(EXPOSURES).where(EXPOSURES.c.person == person))
    if count != known:
        raise ConflictError
    connection.execute(insert(EXPOSURES), rows)


def _no_result(_: Any) -> None:
    return None
