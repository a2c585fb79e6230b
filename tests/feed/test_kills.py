"""A server that is killed while people use it: what it acknowledged is there, once, and it starts again."""

import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest
from sqlalchemy import select

from microlens.feed.event_store import EventStore
from microlens.feed.schema import EVENTS
from tests.feed.conftest import Postgres, Visitor, event_of
from tests.feed.servers import Crowd, Server, ids


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    path = tmp_path_factory.mktemp("settings") / "feed.toml"
    path.write_text("[limits]\nrequests_a_minute = 0\n")
    return ("--settings", str(path))


def kill_and_check(run: Path, url: str, events: int, *options: str) -> None:
    """Kill a server under load when it has acknowledged some events."""
    server = Server(run, url, *options)
    crowd = Crowd(server.address, people=4)
    deadline = time.monotonic() + 60
    while len(crowd.acknowledged) < events:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    server.kill()
    crowd.wait()
    assert crowd.failures == []
    store = EventStore(url)
    stored = Counter(ids(store.read(select(EVENTS.c.event))))
    store.close()
    assert not set(crowd.acknowledged) - set(stored), "an acknowledged event is gone"
    assert max(stored.values(), default=1) == 1
    again = Server(run, url, *options)
    answers = crowd.send_again(again.address)
    assert "serving" in again.stop()
    refused = [refusal["why"] for answer in answers for refusal in answer["refused"]]
    assert all(why.startswith("nothing was shown") for why in refused)  # of the last commit, before the kill
    assert len(refused) <= 4 * 3 * 2
    store = EventStore(url)
    stored = Counter(ids(store.read(select(EVENTS.c.event))))
    store.close()
    sent = {event["id"] for events in crowd.sent.values() for event in events}
    assert len(sent - set(stored)) == len(refused)
    assert max(stored.values(), default=1) == 1


@pytest.mark.slow
def test_what_was_acknowledged_survives_a_kill(world: Path, tmp_path: Path, settings: tuple[str, str]) -> None:
    path = tmp_path / "events.sqlite"
    kill_and_check(world / "id", f"sqlite:///{path}", 60, *settings)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


@pytest.mark.published
@pytest.mark.parametrize("moment", range(10))
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_ten_random_moments(
    request: pytest.FixtureRequest, world: Path, tmp_path: Path, settings: tuple[str, str], kind: str, moment: int
) -> None:
    url = f"sqlite:///{tmp_path}/events.sqlite"
    if kind == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new_database()
    kill_and_check(world / "id", url, int(np.random.default_rng(moment).integers(300)), *settings)


@pytest.mark.slow
def test_a_server_that_is_asked_to_stop_finishes_first_and_reloads_when_asked(
    world: Path, tmp_path: Path, settings: tuple[str, str]
) -> None:
    url = f"sqlite:///{tmp_path}/events.sqlite"
    server = Server(world / "id", url, *settings)
    with httpx.Client(base_url=server.address, timeout=20) as client:
        visitor = Visitor(client)
        server.process.send_signal(signal.SIGHUP)
        exposures = visitor.next(3)
        deadline = time.monotonic() + 30
        while client.get("/api/admin/overview").json()["models"][0]["former"] is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        sent = [event_of(exposure, "like") for exposure in exposures]
        visitor.send(*sent)
        assert visitor.next()
    log = server.stop()
    assert server.process.poll() == 0
    assert '"level": "error"' not in log
    assert "id serves id@" in log
    store = EventStore(url)
    assert ids(store.events(visitor.person)) == [event["id"] for event in sent]
    assert len(store.exposures(visitor.person)) == 4
    store.close()
