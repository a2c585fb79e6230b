"""A server that holds the small set, and a user without settings."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from microlens.download import registry, retrying
from tests.download import tiny_set
from tests.download.file_server import FileServer, serving


@pytest.fixture(autouse=True)
def settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's settings, empty."""
    folder = tmp_path_factory.mktemp("settings")
    monkeypatch.setenv("MICROLENS_CONFIG", str(folder))
    monkeypatch.delenv("MICROLENS_MIRROR", raising=False)
    monkeypatch.setattr(retrying, "FIRST_PAUSE", 0.001)
    return folder


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The registry holds only the small set."""
    table = tiny_set.content()
    registry.load_registry.cache_clear()
    monkeypatch.setattr(registry, "_content", lambda: table)
    yield
    registry.load_registry.cache_clear()


@pytest.fixture
def server(tiny: None) -> Iterator[FileServer]:
    """A server of the small set, in zips and as single files."""
    with serving(tiny_set.served()) as server:
        yield server
