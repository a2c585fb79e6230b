"""The tables of the event store, and their migrations."""

from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from microlens.errors import InputError

METADATA = MetaData()
_Counter = BigInteger().with_variant(Integer, "sqlite")  # only an INTEGER key counts by itself in SQLite

PEOPLE = Table(
    "people",
    METADATA,
    Column("person", String, primary_key=True),
    Column("created", BigInteger, nullable=False),
    Column("arm", String),
)
SESSIONS = Table(
    "sessions",
    METADATA,
    Column("session", String, primary_key=True),
    Column("person", String, nullable=False, index=True),
    Column("created", BigInteger, nullable=False),
    Column("adult", Boolean, nullable=False),
    Column("part", Integer),
    Column("arm", String),
)
EXPOSURES = Table(
    "exposures",
    METADATA,
    Column("request_id", String, nullable=False),
    Column("position", Integer, nullable=False),
    Column("session", String, nullable=False),
    Column("person", String, nullable=False),
    Column("item", String, nullable=False, index=True),
    Column("model", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("score", Float),
    Column("rank", Integer),
    Column("explored", Boolean, nullable=False),
    Column("propensity", Float, nullable=False),
    Column("arm", String),
    Column("created", BigInteger, nullable=False),
    PrimaryKeyConstraint("request_id", "position"),
    Index("exposures_of_person", "person", "created"),
)
EVENTS = Table(
    "events",
    METADATA,
    Column("number", _Counter, primary_key=True, autoincrement=True),
    Column("event", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("request_id", String, nullable=False),
    Column("position", Integer, nullable=False),
    Column("session", String, nullable=False),
    Column("person", String, nullable=False),
    Column("item", String, nullable=False),
    Column("watched_ms", BigInteger),
    Column("loops", Integer),
    Column("duration_ms", BigInteger),
    Column("text", Text),
    Column("at", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
    UniqueConstraint("event", name="one_event_once"),
    Index("events_of_person", "person", "number"),
    Index("events_of_item", "item", "kind", "number"),
)
ITEMS = Table(
    "items",
    METADATA,
    Column("number", _Counter, primary_key=True, autoincrement=True),
    Column("item", String, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("tag", String, nullable=False),
    Column("path", Text, nullable=False),
    Column("cover", Text),
    Column("width", Integer),
    Column("height", Integer),
    Column("duration_ms", BigInteger),
    Column("person", String),
    Column("created", BigInteger, nullable=False),
)
VECTORS = Table(
    "vectors",
    METADATA,
    Column("item", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("vector", LargeBinary, nullable=False),
    PrimaryKeyConstraint("item", "digest"),
)
RULES = Table(
    "rules",
    METADATA,
    Column("item", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("pin", Integer),
    Column("changed", BigInteger, nullable=False),
)
MODELS = Table(
    "models",
    METADATA,
    Column("number", _Counter, primary_key=True, autoincrement=True),
    Column("model", String, nullable=False),
    Column("folder", Text, nullable=False),
    Column("digest", String, nullable=False),
    Column("loaded", BigInteger, nullable=False),
)
STUDIES = Table(
    "studies",
    METADATA,
    Column("study", String, primary_key=True),
    Column("closed", Boolean, nullable=False),
)
PARTICIPANTS = Table(
    "participants",
    METADATA,
    Column("person", String, primary_key=True),
    Column("study", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("order", Text),
    Column("consented", BigInteger),
    Column("done", Integer, nullable=False),
    Column("finished", BigInteger),
    UniqueConstraint("study", "number", name="one_participant_a_number"),
)
ANSWERS = Table(
    "answers",
    METADATA,
    Column("person", String, nullable=False),
    Column("part", Integer, nullable=False),
    Column("question", String, nullable=False),
    Column("answer", Text, nullable=False),
    PrimaryKeyConstraint("person", "part", "question"),
)


def upgrade(connection: Connection) -> None:
    """Create the tables, or bring those of an earlier version up to date, in the transaction of ``connection``.

    Raises:
        InputError: the tables were made by a later version of microlens.
    """
    config = _config()
    config.attributes["connection"] = connection
    present = _present(connection)
    if present is not None and present not in _revisions(config):
        raise InputError(
            f"{_name(connection)} has the schema of a later microlens ({present}); install that version, or name "
            f"another event store with --events URL."
        )
    command.upgrade(config, "head")


def require_present(connection: Connection) -> None:
    """Check that the tables are there as this version makes them.

    Raises:
        InputError: they are not.
    """
    present = _present(connection)
    if present != _revisions(_config())[0]:
        raise InputError(
            f"{_name(connection)} has the schema {present or 'of no event store'}; this version of microlens reads "
            f"those that its microlens feed has opened."
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files("microlens.feed") / "migrations"))
    return config


def _revisions(config: Config) -> list[str]:
    """The known revisions, latest first."""
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]


def _present(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _name(connection: Connection) -> str:
    return connection.engine.url.render_as_string()
