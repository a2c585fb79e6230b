"""The feed: a server that recommends one video after another to people, and records what they do."""

from importlib.util import find_spec

from microlens.errors import InputError

DEFAULT_EVENTS = "sqlite:///feed/events.sqlite"
"""The event store of a feed for which none is named."""


def require_packages() -> None:
    """Check that the packages of the feed are installed.

    Raises:
        InputError: one is not.
    """
    for name in (
        "alembic", "fastapi", "matplotlib", "prometheus_client", "psycopg", "python_multipart", "sqlalchemy", "uvicorn",
    ):  # fmt: skip
        if find_spec(name) is None:
            raise InputError(f"the feed needs the package {name}; install it with: pip install 'microlens[feed]'")
