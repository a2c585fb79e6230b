"""Databases of event stores: their URLs, engines and queries, and reading one that a server may use meanwhile."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from microlens.errors import InputError
from microlens.feed import schema

Row = Mapping[str, Any]
Read = Callable[[Any], list[Row]]
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


def store_url(url: str) -> URL:
    """The URL of an event store, which may be given as the path of a SQLite file.

    Raises:
        InputError: it is neither a SQLite file nor a PostgreSQL database.
    """
    if not re.match(r"[a-z+0-9]+://", url):
        url = f"sqlite:///{url}"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InputError(f"--events {url!r} is not a URL; give sqlite:///PATH or postgresql://HOST/NAME.") from None
    name = parsed.get_backend_name()
    if name not in ("sqlite", *_DRIVERS) or (name == "sqlite" and parsed.database in (None, "", ":memory:")):
        raise InputError(f"--events is {parsed.render_as_string()}; give sqlite:///PATH or postgresql://HOST/NAME.")
    return parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))


def is_sqlite(url: URL) -> bool:
    """True if the event store is a file."""
    return url.get_backend_name() == "sqlite"


def create_folder(url: URL) -> Path:
    """The folder of a SQLite file, which is created; the working folder for another database."""
    folder = Path(str(url.database)).resolve().parent if is_sqlite(url) else Path()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def open_engine(url: URL) -> Engine:
    """The engine of an event store. Transactions of SQLite write unless they have the option ``reading``."""
    if not is_sqlite(url):
        return create_engine(url, pool_size=8, pool_pre_ping=True)
    engine = create_engine(url, pool_size=8, connect_args={"check_same_thread": False, "timeout": 10.0})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where _begin says
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def read_rows(engine: Engine, statement: Any) -> list[Row]:
    """The rows of a query.

    Raises:
        SQLAlchemyError: the database does not answer.
    """
    with engine.connect().execution_options(reading=True) as connection:
        return _rows(connection, statement)


def _rows(connection: Connection, statement: Any) -> list[Row]:
    return [dict(row) for row in connection.execute(statement).mappings()]


@contextmanager
def reading(url: str) -> Iterator[Read]:
    """Read an event store, which a server may use meanwhile; yields a function that returns the rows of a query.

    All queries are in one transaction, so that they see the same moment.

    Raises:
        InputError: there is no event store, it is of another version, or it does not answer.
    """
    parsed = store_url(url)
    if is_sqlite(parsed) and not Path(str(parsed.database)).is_file():
        raise InputError(f"{parsed.database} is no event store; name the one that microlens feed has as --events.")
    engine = open_engine(parsed)
    options = {"reading": True} if is_sqlite(parsed) else {"isolation_level": "REPEATABLE READ"}
    try:
        with engine.connect().execution_options(**options) as connection, connection.begin():
            schema.require_present(connection)
            yield lambda statement: _rows(connection, statement)
    except SQLAlchemyError as error:
        raise InputError(f"the event store {parsed.render_as_string()} cannot be read: {cause(error)}.") from None
    finally:
        engine.dispose()


def cause(error: SQLAlchemyError) -> str:
    """What a database said, on one line without its period."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0].rstrip(".")
