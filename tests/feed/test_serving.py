"""What the feed serves: the items of ``recommend``, once each, and why."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import microlens as ml
from microlens.errors import InputError
from microlens.feed import people
from tests.feed.conftest import ITEMS, NO_EXPLORATION, OpenFeed, Visitor, event_of

Serve = Callable[..., Any]


@pytest.mark.parametrize("run", ["id", "popularity"])
def test_the_feed_serves_what_recommend_lists_for_the_history(
    world: Path, open_world: OpenFeed, serve: Serve, run: str
) -> None:
    visitor = Visitor(serve(open_world(run)))
    watched = visitor.next(3)
    visitor.send(*(event_of(exposure, "like") for exposure in watched))
    history = [exposure["item"] for exposure in watched]
    listed = ml.load(world / run).recommend(history=history, k=5)
    served = visitor.next(5, why=True)
    assert [exposure["item"] for exposure in served] == listed["item"].cast(str).to_list()
    assert [exposure["why"]["score"] for exposure in served] == listed["score"].to_list()
    assert [exposure["why"]["rank"] for exposure in served] == [1, 2, 3, 4, 5]


def test_after_every_event_the_history_is_read_again(world: Path, open_world: OpenFeed, serve: Serve) -> None:
    visitor, run = Visitor(serve(open_world("id"))), ml.load(world / "id")
    liked, shown = list[str](), list[str]()
    for place in range(10):
        (exposure,) = visitor.next()
        if liked:
            best = run.recommend(history=liked, k=ITEMS)["item"].cast(str).to_list()
            assert exposure["item"] == next(item for item in best if item not in shown)
        shown.append(exposure["item"])
        watched = 2000 if place % 2 == 0 else 300
        visitor.send(event_of(exposure, "end", watched_ms=watched))
        if watched == 2000:
            liked.append(exposure["item"])


def test_no_item_comes_twice_until_all_have_been_shown(open_world: OpenFeed, serve: Serve) -> None:
    client = serve(open_world("id", settings={"limits": {"requests_a_minute": 0}}))
    visitor = Visitor(client)
    shown = [exposure["item"] for _ in range(ITEMS // 4) for exposure in visitor.next(4)]
    assert sorted(shown) == sorted(str(item) for item in range(1, ITEMS + 1))
    answer = client.post("/api/next", json={"session": visitor.session, "count": 3}).json()
    assert answer["used_up"]
    assert [exposure["item"] for exposure in answer["exposures"]] == shown[:3]
    assert Visitor(client).person == visitor.person
    assert [exposure["item"] for exposure in Visitor(client).next(2)] == shown[3:5]


def test_what_a_person_refused_does_not_come_again(open_world: OpenFeed, serve: Serve) -> None:
    visitor = Visitor(serve(open_world("id")))
    shown = [exposure for _ in range(ITEMS // 4) for exposure in visitor.next(4)]
    visitor.send(event_of(shown[0], "not-interested"))
    assert visitor.next()[0]["item"] == shown[1]["item"]


def test_the_state_of_a_person_survives_a_restart(open_world: OpenFeed, serve: Serve, tmp_path: Path) -> None:
    def visit(feed: Any, cookies: Any = None) -> tuple[Visitor, Any]:
        client = serve(feed)
        client.cookies.update(cookies or {})
        return Visitor(client), client

    url = f"sqlite:///{tmp_path}/events.sqlite"
    feed = open_world("id", events=url)
    visitor, client = visit(feed)
    first = visitor.next(4)
    visitor.send(*(event_of(exposure, kind) for exposure in first for kind in ("start", "like", "favourite")))
    visitor.send(event_of(first[1], "unlike"), event_of(first[1], "unfavourite"))
    before = feed.people._known[visitor.person]
    client.__exit__(None, None, None)
    again = open_world("id", events=url)
    returned, _ = visit(again, dict(client.cookies))
    after = again.people._known[visitor.person]
    assert returned.person == visitor.person
    assert (after.history, after.shown, after.feedback) == (before.history, before.shown, before.feedback)
    assert after.exposures == before.exposures
    assert {exposure["item"] for exposure in returned.next(4)}.isdisjoint(exposure["item"] for exposure in first)
    numbers = [again.catalogue.number(exposure["item"]) for exposure in first]
    assert [again.counts.likes[number] for number in numbers] == [1, 0, 1, 1]
    assert [again.counts.exposures[number] for number in numbers] == [1, 1, 1, 1]


def test_an_item_that_was_opened_comes_first_also_again(open_world: OpenFeed, serve: Serve) -> None:
    visitor = Visitor(serve(open_world("id")))
    (first, second) = visitor.next(2, item="7", why=True)
    assert first["item"] == "7"
    assert first["why"]["reason"] == "opened"
    assert second["item"] != "7"
    assert visitor.next(item="7")[0]["item"] == "7"


def test_the_reasons_for_a_choice(open_world: OpenFeed, serve: Serve) -> None:
    visitor = Visitor(serve(open_world("id")))
    first = visitor.next(3, why=True)
    assert {exposure["why"]["reason"] for exposure in first} == {"popular"}
    visitor.send(*(event_of(exposure, "like") for exposure in first[:2]))
    (why,) = (exposure["why"] for exposure in visitor.next(why=True))
    assert why["reason"] == "model"
    assert why["of"] == ITEMS - 2
    assert {near["item"] for near in why["nearest"]} == {exposure["item"] for exposure in first[:2]}
    assert why["nearest"][0]["similarity"] >= why["nearest"][1]["similarity"]
    assert visitor.next()[0]["why"] is None


def test_reasons_are_given_only_where_the_settings_allow_it(open_world: OpenFeed, serve: Serve) -> None:
    visitor = Visitor(serve(open_world("id", settings={**NO_EXPLORATION, "why": False})))
    assert visitor.next(why=True)[0]["why"] is None


def test_a_page_learns_what_it_can_offer(open_world: OpenFeed, serve: Serve) -> None:
    answer = serve(open_world("id")).post("/api/sessions").json()
    assert answer["features"] == {"why": True, "upload": False}
    assert answer["preload"] == 2


def test_two_requests_at_once_get_different_items(open_world: OpenFeed, serve: Serve) -> None:
    from concurrent.futures import ThreadPoolExecutor

    visitor = Visitor(serve(open_world("id")))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: visitor.next(2), range(8)))
    items = [exposure["item"] for exposures in found for exposure in exposures]
    assert len(set(items)) == len(items) == 16


def test_everyone_continues_a_user_of_the_dataset(world: Path, open_world: OpenFeed, serve: Serve) -> None:
    run = ml.load(world / "id")
    visitor = Visitor(serve(open_world("id", user="3")))
    assert [exposure["item"] for exposure in visitor.next(5)] == run.recommend([3], k=5)["item"].cast(str).to_list()


def test_a_model_of_users_by_number_needs_a_user(world: Path, open_world: OpenFeed) -> None:
    from tests.feed.conftest import train_run

    train_run(world, "by-number", "id", model="lightgcn")
    with pytest.raises(InputError, match="identifies users by number"):
        open_world("by-number")
    open_world("by-number", user="3").close()


def test_the_files_of_the_page_are_kept_by_browsers_and_asked_for_again(lasting: TestClient) -> None:
    first = lasting.get("/static/feed.js")
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
    again = lasting.get("/static/feed.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert lasting.get("/health").headers["cache-control"] == "no-store"


def test_who_is_idle_leaves_the_memory_and_is_known_again(
    open_world: OpenFeed, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = open_world("id")
    client = serve(feed)
    first = Visitor(client)
    shown = first.next(4)
    first.send(event_of(shown[0], "like"))
    cookies = dict(client.cookies)
    clock = people.now_ms
    monkeypatch.setattr(people, "now_ms", lambda: clock() + people.IDLE_MS + 1)
    client.cookies.clear()
    Visitor(client)
    assert feed.people.live == 1
    client.cookies.clear()
    client.cookies.update(cookies)
    again = [exposure for _ in range(ITEMS // 4 - 1) for exposure in first.next(4)]
    assert feed.people.live == 2
    assert {exposure["item"] for exposure in again}.isdisjoint(exposure["item"] for exposure in shown)
