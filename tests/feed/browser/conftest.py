"""A browser, and a feed that can be stopped and started again at the same address."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from microlens.feed.live import Feed
from microlens.feed.people import person_of
from microlens.feed.server.app import create_app
from microlens.feed.server.running import open_feed
from microlens.feed.settings import FeedSettings
from microlens.feed.study.settings import StudySettings
from tests.feed.conftest import NO_EXPLORATION

PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 780}, "has_touch": True, "is_mobile": True}
DESK: dict[str, Any] = {"viewport": {"width": 1920, "height": 1080}}
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")  # playwright's own build plays no H.264
CURRENT = "article:not([inert])"
Condition = Callable[[], Any]


def until(condition: Condition, seconds: float = 30) -> Any:
    """Wait until a condition holds; returns what it returned."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"it did not happen within {seconds} seconds")


class LiveFeed:
    """A server in a thread, whose event store lasts when it is stopped and started again."""

    def __init__(self, world: Path, folder: Path, *runs: str, study: StudySettings | None = None) -> None:
        self._runs, self._release, self._study = [world / run for run in runs or ("id",)], world / "release", study
        self.events_url = f"sqlite:///{folder}/events.sqlite"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        settings = FeedSettings.model_validate(NO_EXPLORATION)
        self.feed: Feed = open_feed(self._runs, self.events_url, settings, release=self._release, study=self._study)
        self._server = uvicorn.Server(
            uvicorn.Config(create_app(self.feed), log_config=None, timeout_graceful_shutdown=1)
        )
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listening]})
        self._thread.start()
        until(lambda: self._server.started)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listening.close()

    def events(self, page: Any) -> list[dict[str, Any]]:
        """The stored events of the person who uses a page, the oldest first."""
        cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
        self.feed.store.flush()
        events = [dict(event) for event in self.feed.store.events(person_of(cookies["microlens_person"]))]
        return sorted(events, key=lambda event: event["at"])

    def stored(self, page: Any, *kinds: str) -> list[dict[str, Any]]:
        """Wait until events of these kinds are stored, in this order among others; returns all."""

        def found() -> list[dict[str, Any]] | None:
            events = self.events(page)
            rest = iter([event["kind"] for event in events])
            return events if all(kind in rest for kind in kinds) else None

        return until(found)


@pytest.fixture(scope="module")
def live(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFeed]:
    """A feed of the world, for a module."""
    server = LiveFeed(world, tmp_path_factory.mktemp("live"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Chromium of the system, or the one that ``MICROLENS_CHROMIUM`` names."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the tests of the page need playwright")
    program = os.environ.get("MICROLENS_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("Chromium is not installed (apt-get install chromium, or set MICROLENS_CHROMIUM)")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Visit:
    """Opens pages, and collects what they ask for and what goes wrong in them."""

    def __init__(self, chromium: Any, live: LiveFeed) -> None:
        self._chromium, self._live = chromium, live
        self.requests: list[str] = []
        self.mistakes: list[str] = []
        self.contexts: list[Any] = []

    def __call__(self, size: dict[str, Any], query: str = "", **options: Any) -> Any:
        """Open the page as a new person, and wait until something is shown."""
        return self.open(self.browser(size, **options), query)

    def browser(self, size: dict[str, Any], **options: Any) -> Any:
        """A browser that has not been there."""
        context = self._chromium.new_context(**size, **options)
        context.set_default_timeout(30_000)
        self.contexts.append(context)
        return context

    def open(self, context: Any, query: str = "", shows: str = CURRENT) -> Any:
        """Open a page in a browser that may have been there, and wait until it shows something."""
        page = context.new_page()
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.mistakes.append(str(error)))
        page.on("console", lambda said: said.type in ("error", "warning") and self.mistakes.append(said.text))
        page.goto(self._live.address + query)
        page.locator(shows).first.wait_for()
        return page


@pytest.fixture
def visit(chromium: Any, live: LiveFeed) -> Iterator[Visit]:
    """Opens pages; at the end nothing has gone to another server, and nothing was wrong that was not expected."""
    visit = Visit(chromium, live)
    yield visit
    for context in visit.contexts:
        context.close()
    elsewhere = [url for url in visit.requests if not url.startswith((live.address, "blob:", "data:"))]
    assert (elsewhere, visit.mistakes) == ([], [])
