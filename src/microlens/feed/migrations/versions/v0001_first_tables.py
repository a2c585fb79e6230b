"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_counter = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create all tables."""
    _create_people()
    _create_exposures()
    _create_events()
    _create_items()
    _create_models()


def _create_people() -> None:
    op.create_table(
        "people",
        sa.Column("person", sa.String, primary_key=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("arm", sa.String),
    )
    op.create_table(
        "sessions",
        sa.Column("session", sa.String, primary_key=True),
        sa.Column("person", sa.String, nullable=False, index=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("adult", sa.Boolean, nullable=False),
    )


def _create_exposures() -> None:
    op.create_table(
        "exposures",
        sa.Column("request_id", sa.String, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("session", sa.String, nullable=False),
        sa.Column("person", sa.String, nullable=False),
        sa.Column("item", sa.String, nullable=False, index=True),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("score", sa.Float),
        sa.Column("rank", sa.Integer),
        sa.Column("explored", sa.Boolean, nullable=False),
        sa.Column("propensity", sa.Float, nullable=False),
        sa.Column("arm", sa.String),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("request_id", "position"),
        sa.Index("exposures_of_person", "person", "created"),
    )


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("number", _counter, primary_key=True, autoincrement=True),
        sa.Column("event", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("request_id", sa.String, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("session", sa.String, nullable=False),
        sa.Column("person", sa.String, nullable=False),
        sa.Column("item", sa.String, nullable=False),
        sa.Column("watched_ms", sa.BigInteger),
        sa.Column("loops", sa.Integer),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("text", sa.Text),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("event", name="one_event_once"),
        sa.Index("events_of_person", "person", "number"),
        sa.Index("events_of_item", "item", "kind", "number"),
    )


def _create_items() -> None:
    op.create_table(
        "items",
        sa.Column("number", _counter, primary_key=True, autoincrement=True),
        sa.Column("item", sa.String, nullable=False, unique=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("tag", sa.String, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("cover", sa.Text),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("person", sa.String),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "vectors",
        sa.Column("item", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("item", "digest"),
    )
    op.create_table(
        "rules",
        sa.Column("item", sa.String, primary_key=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("pin", sa.Integer),
        sa.Column("changed", sa.BigInteger, nullable=False),
    )


def _create_models() -> None:
    op.create_table(
        "models",
        sa.Column("number", _counter, primary_key=True, autoincrement=True),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("loaded", sa.BigInteger, nullable=False),
    )
