"""What people do: stored once, durably, tied to an exposure; what is wrong is refused and holds nothing up."""

import json
import time
import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from microlens.feed.event_store import EventStore
from microlens.feed.person import Person, replay
from microlens.feed.schema import EVENTS
from microlens.feed.settings import FeedbackSettings
from tests.feed.conftest import Visitor, event_of


@pytest.fixture
def store(lasting: TestClient) -> EventStore:
    found: EventStore = lasting.app.state.feed.store
    return found


@pytest.fixture
def visitor(lasting: TestClient) -> Visitor:
    lasting.cookies.clear()
    return Visitor(lasting)


def test_events_that_are_sent_twice_count_once(visitor: Visitor, store: EventStore) -> None:
    (exposure,) = visitor.next()
    events = [event_of(exposure, kind) for kind in ("impression", "start", "like", "comment")[:3]]
    assert visitor.send(*events) == {"stored": 3, "repeated": 0, "refused": []}
    assert visitor.send(*events, *events) == {"stored": 0, "repeated": 6, "refused": []}
    again = event_of(exposure, "like")
    assert visitor.send(again, again) == {"stored": 1, "repeated": 1, "refused": []}
    assert [row["kind"] for row in store.events(visitor.person)] == ["impression", "start", "like", "like"]
    item = visitor.client.get(f"/api/items/{exposure['item']}").json()
    assert item["likes"] == exposure["likes"] + 1
    assert item["views"] == exposure["views"] + 1
    assert item["my"] == {"liked": True, "favourite": False}


def test_every_column_of_an_event_is_stored(visitor: Visitor, store: EventStore) -> None:
    exposure = visitor.next(2)[1]
    sent = event_of(exposure, "end", watched_ms=4000, loops=1, duration_ms=2500)
    visitor.send(sent)
    (row,) = store.events(visitor.person)
    assert row["event"] == sent["id"]
    expected = {name: sent[name] for name in ("kind", "request_id", "position", "at", "watched_ms", "loops")}
    assert {name: row[name] for name in expected} == expected
    assert (row["item"], row["session"], row["person"]) == (exposure["item"], visitor.session, visitor.person)
    assert abs(row["received"] - time.time() * 1000) < 60_000


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"request_id": "neverwasthere"}, "nothing was shown at position 0 of request neverwasthere"),
    ({"position": 7}, "nothing was shown at position 7"),
    ({"at": int(time.time() * 1000) + 10**8}, "at is in the future"),
    ({"kind": "dislike"}, "kind: Input should be"),
    ({"id": "short"}, "id: String should match"),
    ({"id": None}, "id: Input should be a valid string"),
    ({"watched_ms": -1}, "watched_ms: Input should be greater"),
    ({"watched_ms": 10**12}, "watched_ms: Input should be less"),
    ({"position": 2**40}, "position: Input should be less"),
    ({"kind": "comment"}, "a comment needs a text"),
    ({"kind": "comment", "text": " \u0000\u0007 "}, "a comment needs a text"),
    ({"kind": "comment", "text": "x" * 501}, "a comment has at most 500 characters"),
    ({"at": "yesterday"}, "at: Input should be a valid integer"),
]


@pytest.mark.parametrize(("facts", "why"), WRONG)
def test_a_wrong_event_is_refused_and_the_others_are_stored(visitor: Visitor, facts: dict[str, Any], why: str) -> None:
    (exposure,) = visitor.next()
    found = visitor.send({**event_of(exposure, "start"), **facts}, event_of(exposure, "like"))
    assert (found["stored"], found["repeated"]) == (1, 0)
    (refused,) = found["refused"]
    assert why in refused["why"]


@pytest.mark.parametrize("event", [None, 5, "like", [], {}])
def test_what_is_no_event_is_refused(visitor: Visitor, event: Any) -> None:
    found = visitor.send(event)
    assert (found["stored"], len(found["refused"])) == (0, 1)


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 422, "Invalid JSON"),
        (b"\xff\xfe{", 422, "Invalid JSON"),
        (b'{"session": "\xff"}', 422, "Invalid JSON"),
        (b"[]", 422, "Input should be an object"),
        (b'{"events": []}', 422, "session: Field required"),
        (b'{"session": "someone-elses", "events": []}', 404, "there is no such session"),
        (b'{"session": 5, "events": []}', 422, "session: Input should be a valid string"),
        (b"[" * 100_000, 422, "Invalid JSON"),
        (b'{"session": "' + b"x" * 2**20 + b'"}', 413, "more than 1,048,576 bytes"),
    ],
)
def test_what_is_no_batch_is_refused(visitor: Visitor, body: bytes, status: int, detail: str) -> None:
    answer = visitor.client.post("/api/events", content=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in answer.json()["detail"]
    assert answer.json()["status"] == status


def test_too_many_events_at_once_are_refused(visitor: Visitor, store: EventStore) -> None:
    (exposure,) = visitor.next()
    events = [{"id": uuid.uuid4().hex, **exposure}] * 10_000
    body = {"session": visitor.session, "events": [{"id": event["id"]} for event in events]}
    assert visitor.client.post("/api/events", json=body).status_code == 422
    assert store.events(visitor.person) == []


def test_five_megabytes_of_comment_are_refused(visitor: Visitor) -> None:
    (exposure,) = visitor.next()
    body = {"session": visitor.session, "events": [event_of(exposure, "comment", text="x" * 5_000_000)]}
    assert visitor.client.post("/api/events", json=body).status_code == 413

    def pieces() -> Any:
        text = json.dumps(body).encode()
        yield from (text[start : start + 65536] for start in range(0, len(text), 65536))

    assert visitor.client.post("/api/events", content=pieces()).status_code == 413  # without Content-Length


def test_a_beacon_is_plain_text(visitor: Visitor) -> None:
    (exposure,) = visitor.next()
    text = json.dumps({"session": visitor.session, "events": [event_of(exposure, "end", watched_ms=100)]})
    answer = visitor.client.post("/api/events", content=text, headers={"Content-Type": "text/plain;charset=UTF-8"})
    assert answer.json() == {"stored": 1, "repeated": 0, "refused": []}


def test_events_out_of_order_are_applied_in_the_order_of_the_client(visitor: Visitor) -> None:
    (exposure,) = visitor.next()
    like, unlike = event_of(exposure, "like"), event_of(exposure, "unlike")
    unlike["at"] = like["at"] + 1
    visitor.send(unlike, like)
    assert not visitor.client.get(f"/api/items/{exposure['item']}").json()["my"]["liked"]


def test_events_of_an_earlier_visit_are_still_taken(visitor: Visitor, store: EventStore) -> None:
    (exposure,) = visitor.next()
    later = Visitor(visitor.client)
    assert later.person == visitor.person
    assert later.send(event_of(exposure, "like"))["stored"] == 1
    (row,) = store.events(visitor.person)
    assert row["session"] == visitor.session


def test_comments_are_listed_newest_first_by_pages(visitor: Visitor) -> None:
    (exposure,) = visitor.next()
    texts = [f"<b>comment {number}</b> \u202e" for number in range(60)]
    for text in texts:
        visitor.send(event_of(exposure, "comment", text=text))
    path = f"/api/items/{exposure['item']}/comments"
    first = visitor.client.get(path).json()
    rest = visitor.client.get(path, params={"before": first["before"]}).json()
    listed = [comment["text"] for comment in (*first["comments"], *rest["comments"])]
    assert listed == [text.removesuffix(" \u202e") for text in reversed(texts)]
    assert rest["before"] is None
    assert all(comment["mine"] for comment in first["comments"])
    assert visitor.client.get(f"/api/items/{exposure['item']}").json()["comments"] == 60


KINDS = ("end", "progress", "like", "unlike", "favourite", "unfavourite", "share", "comment", "not-interested", "start")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 12_000)), max_size=30))
def test_the_history_follows_the_weights_of_the_feedback(done: list[tuple[str, int, int]]) -> None:
    weights = FeedbackSettings(watched=1.0, like=0.5, comment=0.4, share=0.3, favourite=0.2, threshold=0.7)
    person, history = Person("0" * 32, None, weights), list[int]()
    for place, (_, item, _) in enumerate(done):
        before = [event for event in done[: place + 1] if event[1] == item]
        kinds = [kind for kind, _, _ in before]

        def last(on: str, off: str, kinds: list[str] = kinds) -> bool:
            relevant = [kind for kind in kinds if kind in (on, off)]
            return bool(relevant) and relevant[-1] == on

        weight = min(1.0, max((ms for kind, _, ms in before if kind in ("end", "progress")), default=0) / 10_000)
        weight += 0.5 * last("like", "unlike") + 0.2 * last("favourite", "unfavourite")
        weight += 0.4 * ("comment" in kinds) + 0.3 * ("share" in kinds)
        positive = weight >= 0.7 and "not-interested" not in kinds
        if positive and item not in history:
            history.append(item)
        elif not positive and item in history:
            history.remove(item)
    rows = [
        {
            "kind": kind,
            "session": "session",
            "item": str(item),
            "watched_ms": ms if kind in ("end", "progress") else None,
            "duration_ms": 10_000,
        }
        for kind, item, ms in done
    ]
    replay(person, [], rows, int)
    assert person.history == history


def test_the_store_holds_an_event_when_the_answer_comes(visitor: Visitor, store: EventStore) -> None:
    (exposure,) = visitor.next()
    for _ in range(20):
        sent = event_of(exposure, "progress", watched_ms=10)
        visitor.send(sent)
        found = store.read(select(EVENTS.c.event).where(EVENTS.c.event == sent["id"]))
        assert [row["event"] for row in found] == [sent["id"]]
