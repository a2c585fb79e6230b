"""The event store: durable before it answers, whole after a failure, and the same in SQLite and PostgreSQL."""

import os
import shutil
import sqlite3
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from microlens.errors import InputError
from microlens.feed import schema
from microlens.feed.event_store import ConflictError, EventStore
from microlens.feed.group_commit import StoreUnavailableError
from microlens.feed.schema import EVENTS, PEOPLE, RULES
from tests.feed.conftest import OpenFeed, Postgres, Visitor, event_of

Serve = Callable[..., Any]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        return server.new_database()
    return f"sqlite:///{tmp_path}/store/events.sqlite"


@pytest.fixture
def store(url: str) -> Iterator[EventStore]:
    found = EventStore(url)
    yield found
    found.close()


def exposure_row(person: str, position: int, item: str = "1") -> dict[str, Any]:
    return {
        "request_id": f"request-{person}",
        "position": position,
        "session": "session",
        "person": person,
        "item": item,
        "model": "model@0",
        "reason": "model",
        "score": 0.5,
        "rank": 1,
        "explored": False,
        "propensity": 0.9,
        "arm": None,
        "created": 10 + position,
    }


def event_row(person: str, kind: str = "like", **facts: Any) -> dict[str, Any]:
    row = dict.fromkeys(EVENTS.columns.keys())
    del row["number"]
    fixed = {
        "request_id": f"request-{person}",
        "position": 0,
        "session": "session",
        "item": "1",
        "at": 1,
        "received": 2,
    }
    return {**row, **fixed, "event": uuid.uuid4().hex, "kind": kind, "person": person, **facts}


def test_what_was_written_is_read(store: EventStore) -> None:
    store.add(PEOPLE, person="a", created=5, arm="arm").result()
    assert dict(store.person("a") or {}) == {"person": "a", "created": 5, "arm": "arm"}
    assert store.person("b") is None
    rows = [exposure_row("a", position, item="\u5468\U0001f600'\"") for position in range(3)]
    store.add_exposures(rows, 0).result()
    store.flush()
    assert store.exposures("a") == rows
    store.put(RULES, item="1", state="active", pin=3, changed=1).result()
    store.put(RULES, item="1", state="taken-down", pin=None, changed=2).result()
    assert store.rules() == [{"item": "1", "state": "taken-down", "pin": None, "changed": 2}]
    assert store.totals() == {"people": 1, "sessions": 0, "exposures": 3, "events": {}}


def test_an_event_counts_once(store: EventStore) -> None:
    rows = [event_row("a") for _ in range(5)]
    assert len(store.add_events(rows).result()) == 5
    assert store.add_events(rows[:3]).result() == []
    mixed = [rows[0], event_row("a"), rows[4]]
    assert store.add_events(mixed).result() == [mixed[1]]
    assert [row["event"] for row in store.events("a")] == [row["event"] for row in (*rows, mixed[1])]


def test_many_writers_lose_and_double_nothing(store: EventStore) -> None:
    shared = [event_row("shared") for _ in range(50)]
    counts: list[int] = []

    def write(number: int) -> None:
        for row in shared:
            own = event_row(f"person {number}")
            counts.append(len(store.add_events([row, own]).result()))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.events("shared")) == 50
    assert sum(counts) == 50 + 8 * 50
    assert all(len(store.events(f"person {number}")) == 50 for number in range(8))


def test_writes_that_come_together_are_committed_together(store: EventStore) -> None:
    commits = []
    original = store._commits._transaction
    store._commits._transaction = lambda jobs: commits.append(len(jobs)) or original(jobs)
    entered, go_on = threading.Event(), threading.Event()
    held = store.write(lambda _: entered.set() or go_on.wait(10))
    entered.wait(10)
    futures = [store.add_events([event_row("a")]) for _ in range(100)]
    go_on.set()
    held.result()
    assert all(len(future.result()) == 1 for future in futures)
    assert commits == [1, 100]


def test_a_wrong_write_does_not_take_others_along(store: EventStore) -> None:
    entered, go_on = threading.Event(), threading.Event()
    store.write(lambda _: entered.set() or go_on.wait(10))
    entered.wait(10)
    before = store.add_events([event_row("a")])
    wrong: Future[Any] = store.add(PEOPLE, person=None, created=1)
    after = store.add_events([event_row("a")])
    go_on.set()
    assert (len(before.result()), len(after.result())) == (1, 1)
    with pytest.raises(Exception, match=r"(?i)not.null"):
        wrong.result()
    assert len(store.events("a")) == 2


def test_the_schema_is_that_of_the_migrations(store: EventStore) -> None:
    with store._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.METADATA) == []


def test_a_store_is_opened_again_and_that_of_a_later_version_is_refused(url: str) -> None:
    first = EventStore(url)
    first.add(PEOPLE, person="a", created=5).result()
    first.close()
    again = EventStore(url)
    assert again.person("a") is not None
    again.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))).result()
    again.close()
    with pytest.raises(InputError, match=r"the schema of a later microlens \(9999\)"):
        EventStore(url)


def test_totals_of_items_are_those_that_were_counted(open_world: OpenFeed, serve: Serve, url: str) -> None:
    feed = open_world("id", events=url)
    client = serve(feed)
    for number in range(3):
        client.cookies.clear()
        visitor = Visitor(client)
        for exposure in visitor.next(5):
            kinds = ["start", "like", *(["unlike"] if number == 1 else []), "comment"]
            visitor.send(*(event_of(exposure, kind, text="good") for kind in kinds))
            visitor.send(
                event_of(exposure, "end", watched_ms=500 * number), event_of(exposure, "progress", watched_ms=99)
            )
    names = ("exposures", "views", "likes", "comments", "ends")
    counted = {name: getattr(feed.counts, name).tolist() for name in names}
    watched = feed.counts.watched.copy()
    feed.store.flush()
    feed.counts.load(feed.store)
    assert {name: getattr(feed.counts, name).tolist() for name in names} == counted
    assert feed.counts.watched.tolist() == pytest.approx(watched.tolist())
    assert sum(counted["likes"]) == 10


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://host/name", "give sqlite:///PATH or postgresql://HOST/NAME"),
        ("sqlite://", "give sqlite:///PATH"),
        ("sqlite:///:memory:", "give sqlite:///PATH"),
        ("postgresql://nobody@127.0.0.1:1/none", "cannot be opened"),
        ("http://", "give sqlite"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_in_a_sentence(url: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        EventStore(url)


def test_a_password_is_not_shown() -> None:
    with pytest.raises(InputError) as caught:
        EventStore("postgresql://nobody:s3cret@127.0.0.1:1/none")
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    path.write_bytes(b"not a database, but something of the user " * 100)
    with pytest.raises(InputError, match="file is not a database"):
        EventStore(str(path))
    assert path.read_bytes().startswith(b"not a database, but something of the user")


def test_two_servers_on_one_sqlite_file_are_refused(tmp_path: Path) -> None:
    first = EventStore(str(tmp_path / "events.sqlite"))
    with pytest.raises(InputError, match="another server uses the event store"):
        EventStore(str(tmp_path / "events.sqlite"))
    first.close()
    EventStore(str(tmp_path / "events.sqlite")).close()


def test_sqlite_syncs_every_commit_of_events(tmp_path: Path) -> None:
    store = EventStore(str(tmp_path / "events.sqlite"))
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    store.close()


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
