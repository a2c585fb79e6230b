"""Event stores under several servers, without their database, and on full disks."""

import os
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from microlens.feed.event_store import ConflictError, EventStore
from microlens.feed.group_commit import StoreUnavailableError
from microlens.feed.schema import PEOPLE
from tests.feed.conftest import OpenFeed, Postgres, Visitor, event_of
from tests.feed.records import exposure_row

Serve = Callable[..., Any]


def test_two_servers_on_one_postgresql_see_each_other(postgres: Postgres, open_world: OpenFeed, serve: Serve) -> None:
    url = postgres.new_database()
    feeds = [open_world("id", events=url) for _ in range(2)]
    one, other = (serve(feed) for feed in feeds)
    visitor = Visitor(one)
    other.cookies.update(dict(one.cookies))
    shown = [exposure["item"] for _ in range(5) for client in (one, other) for exposure in _next(client, visitor)]
    assert len(set(shown)) == 10
    first = visitor.next()[0]
    event = event_of(first, "like")
    body = {"session": visitor.session, "events": [event]}
    assert other.post("/api/events", json=body).json()["stored"] == 1
    assert one.post("/api/events", json=body).json() == {"stored": 0, "repeated": 1, "refused": []}
    assert one.get(f"/api/items/{first['item']}").json()["my"]["liked"]
    assert one.post("/api/admin/items/" + first["item"], json={"state": "taken-down"}).status_code == 200
    deadline = time.monotonic() + 1.5
    while other.get(f"/api/items/{first['item']}").status_code != 404:
        assert time.monotonic() < deadline, "a takedown takes effect within a second"
        time.sleep(0.05)


def _next(client: Any, visitor: Visitor) -> list[dict[str, Any]]:
    answer = client.post("/api/next", json={"session": visitor.session})
    exposures: list[dict[str, Any]] = answer.json()["exposures"]
    return exposures


def test_two_servers_never_show_a_person_the_same_at_once(
    postgres: Postgres, open_world: OpenFeed, serve: Serve
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    url = postgres.new_database()
    clients = [serve(open_world("id", events=url)) for _ in range(2)]
    visitor = Visitor(clients[0])
    clients[1].cookies.update(dict(clients[0].cookies))
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda client: [_next(client, visitor)[0]["item"] for _ in range(8)], clients)
        items = [item for items in found for item in items]
    assert len(items) == len(set(items)) == 16


def test_another_servers_exposure_is_a_conflict(postgres: Postgres) -> None:
    store = EventStore(postgres.new_database())
    store.add(PEOPLE, person="a", created=1).result()
    store.add_exposures([exposure_row("a", 0)], 0).result()
    with pytest.raises(ConflictError):
        store.add_exposures([exposure_row("a", 1)], 0).result()
    store.add_exposures([exposure_row("a", 1)], 1).result()
    assert len(store.exposures("a")) == 2
    store.close()


def test_postgresql_that_stops_and_comes_back_loses_nothing_it_acknowledged(
    postgres: Postgres, open_world: OpenFeed, serve: Serve
) -> None:
    server = Postgres()
    server.start()
    client = serve(open_world("id", events=server.new_database()))
    visitor = Visitor(client)
    (exposure,) = visitor.next()
    acknowledged = [event_of(exposure, "progress", watched_ms=number) for number in range(20)]
    visitor.send(*acknowledged)
    server.stop()
    body = {"session": visitor.session, "events": [event_of(exposure, "like")]}
    answers = [client.post("/api/events", json=body), client.post("/api/next", json={"session": visitor.session})]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert answers[0].headers["retry-after"]
    assert client.get("/health").status_code == 200
    assert client.get("/ready").status_code == 503
    server.start()
    assert client.post("/api/events", json=body).json() == {"stored": 1, "repeated": 0, "refused": []}
    stored = client.app.state.feed.store.events(visitor.person)
    assert [row["event"] for row in stored] == [event["id"] for event in (*acknowledged, body["events"][0])]
    assert visitor.next()
    client.__exit__(None, None, None)
    server.remove()


def test_while_the_disk_is_full_items_are_served_and_events_are_refused_until_there_is_room(
    open_world: OpenFeed, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = open_world("id")
    visitor = Visitor(serve(feed))
    before = event_of(visitor.next()[0], "like")
    visitor.send(before)
    full = threading.Event()
    original = feed.store._commits._transaction

    def transaction(jobs: Any) -> Any:
        if full.is_set():
            raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))
        return original(jobs)

    monkeypatch.setattr(feed.store._commits, "_transaction", transaction)
    full.set()
    shown = visitor.next(3)
    body = {"session": visitor.session, "events": [event_of(exposure, "like") for exposure in shown]}
    answer = visitor.client.post("/api/events", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert visitor.client.get(shown[0]["video"]).status_code == 200
    assert visitor.client.get("/ready").status_code == 200
    assert not visitor.client.get(f"/api/items/{shown[0]['item']}").json()["my"]["liked"]
    full.clear()
    assert visitor.client.post("/api/events", json=body).json() == {"stored": 3, "repeated": 0, "refused": []}
    stored = feed.store.events(visitor.person)
    assert [row["event"] for row in stored] == [event["id"] for event in (before, *body["events"])]
    assert [row["item"] for row in feed.store.exposures(visitor.person)][1:] == [exposure["item"] for exposure in shown]


def test_exposures_are_written_when_there_is_room_again_without_being_asked(tmp_path: Path) -> None:
    store = EventStore(str(tmp_path / "events.sqlite"))
    original = store._commits._transaction
    fails = [True]

    def transaction(jobs: Any) -> Any:
        if fails:
            fails.pop()
            raise OperationalError("INSERT", {}, sqlite3.OperationalError("disk is full"))
        return original(jobs)

    store._commits._transaction = transaction
    store.add_exposures([exposure_row("a", 0)], 0)
    with pytest.raises(StoreUnavailableError):
        store.add(PEOPLE, person="a", created=1).result()
    deadline = time.monotonic() + 10
    while not store.exposures("a") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(store.exposures("a")) == 1
    store.close()


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("mount") is None, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full(tmp_path: Path, open_world: OpenFeed, serve: Serve) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        feed = open_world("id", events=f"sqlite:///{disk}/events.sqlite")
        visitor = Visitor(serve(feed))
        (exposure,) = visitor.next()
        acknowledged: list[str] = []
        for _ in range(300):
            events = [event_of(exposure, "comment", text="x" * 400) for _ in range(10)]
            answer = visitor.client.post("/api/events", json={"session": visitor.session, "events": events})
            if answer.status_code != 200:
                break
            acknowledged += [event["id"] for event in events]
        assert answer.status_code == 503
        assert visitor.next()
        assert visitor.client.get(exposure["video"]).status_code == 200
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        assert visitor.send(*events)["stored"] == 10
        stored = [row["event"] for row in feed.store.events(visitor.person)]
        assert stored == [*acknowledged, *(event["id"] for event in events)]
        visitor.client.__exit__(None, None, None)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
