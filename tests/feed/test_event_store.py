"""The event store: durable before it answers, whole after a failure, and the same in SQLite and PostgreSQL."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from microlens.errors import InputError
from microlens.feed import schema
from microlens.feed.database import create_folder, open_engine, reading, store_url
from microlens.feed.event_store import EventStore
from microlens.feed.schema import PEOPLE, RULES
from tests.feed.conftest import OpenFeed, Postgres, Visitor, event_of
from tests.feed.records import event_row, exposure_row

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


def test_a_store_of_the_first_version_is_brought_up_to_date_with_what_it_holds(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(store_url(url))
    create_folder(store_url(url))
    with monkeypatch.context() as patch, engine.begin() as connection:
        original = schema.command.upgrade
        patch.setattr(schema.command, "upgrade", lambda config, _: original(config, "0001"))
        schema.upgrade(connection)
        connection.execute(text("INSERT INTO sessions (session, person, created, adult) VALUES ('s', 'a', 5, false)"))
    engine.dispose()
    with pytest.raises(InputError, match="has the schema 0001"), reading(url):
        pass
    store = EventStore(url)
    assert store.sessions("a") == [
        {"session": "s", "person": "a", "created": 5, "adult": False, "part": None, "arm": None}
    ]
    store.close()


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
