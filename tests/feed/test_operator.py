"""What operators do: take items down, pin them, look at the state; and the tags that settings allow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from microlens.errors import InputError
from microlens.feed.server.activity import LIVE_MS, Activity
from microlens.feed.settings import FeedSettings
from tests.feed.conftest import ITEMS, NO_EXPLORATION, OpenFeed, Visitor, event_of

Serve = Callable[..., Any]


def everything(visitor: Visitor) -> list[str]:
    """All items that a person is shown, until they come again."""
    shown: list[str] = []
    while True:
        answer = visitor.client.post("/api/next", json={"session": visitor.session, "count": 1}).json()
        if answer["used_up"] or not answer["exposures"]:
            return shown
        shown.append(answer["exposures"][0]["item"])


def test_an_item_that_is_taken_down_is_gone_at_once_and_comes_back(open_world: OpenFeed, serve: Serve) -> None:
    client = serve(open_world("id"))
    visitor = Visitor(client)
    visitor.send(event_of(visitor.next()[0], "like"))
    answer = client.post("/api/admin/items/7", json={"state": "taken-down"})
    assert answer.json() == {"state": "taken-down", "pin": None}
    for path in ("/media/7", "/covers/7", "/api/items/7", "/api/items/7/comments"):
        assert client.get(path).status_code == 404
    assert client.post("/api/next", json={"session": visitor.session, "item": "7"}).status_code == 404
    shown = everything(visitor)
    assert "7" not in shown
    assert len(shown) >= ITEMS - 2
    client.post("/api/admin/items/7", json={"state": "active"})
    assert client.get("/media/7").status_code == 200
    client.cookies.clear()
    assert "7" in everything(Visitor(client))


def test_rules_survive_a_restart(open_world: OpenFeed, serve: Serve, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/events.sqlite"
    client = serve(open_world("id", events=url))
    client.post("/api/admin/items/7", json={"state": "taken-down"})
    client.post("/api/admin/items/8", json={"pin": 2})
    client.__exit__(None, None, None)
    feed = open_world("id", events=url)
    assert not feed.catalogue.active[7]
    assert feed.catalogue.pins == [(2, 8)]
    feed.close()


def test_a_pinned_item_comes_at_its_position_to_everyone_once(open_world: OpenFeed, serve: Serve) -> None:
    client = serve(open_world("id"))
    client.post("/api/admin/items/9", json={"pin": 3})
    client.post("/api/admin/items/11", json={"pin": 1})
    client.post("/api/admin/items/4", json={"pin": 15})
    for _ in range(10):
        client.cookies.clear()
        visitor = Visitor(client)
        shown = everything(visitor)
        assert (shown[0], shown[2], shown[14]) == ("11", "9", "4")
        assert len(shown) == len(set(shown)) == ITEMS


def test_only_items_with_allowed_tags_are_shown_and_some_only_to_adults(
    world: Path, open_world: OpenFeed, serve: Serve
) -> None:
    table = pl.read_parquet(world / "dataset" / "items.parquet").select(pl.col("item_id").cast(pl.String), "tag")
    by_tag = {tag: set(rows["item_id"]) for (tag,), rows in table.group_by("tag")}
    blocked, adult = sorted(by_tag)[:2]
    client = serve(open_world("id", settings={**NO_EXPLORATION, "blocked_tags": [blocked], "adult_tags": [adult]}))
    everyone = {str(item) for item in table["item_id"]} - by_tag[blocked]
    visitor = Visitor(client)
    assert set(everything(visitor)) == everyone - by_tag[adult]
    client.cookies.clear()
    assert set(everything(Visitor(client, adult=True))) == everyone
    only = serve(open_world("id", settings={**NO_EXPLORATION, "allowed_tags": [adult]}))
    assert set(everything(Visitor(only))) == by_tag[adult]


@pytest.mark.parametrize(
    ("item", "body", "status"),
    [
        ("99", {"state": "active"}, 404),
        ("7", {"state": "gone"}, 422),
        ("7", {"pin": 0}, 422),
        ("7", {"pin": "first"}, 422),
        ("7", [], 422),
    ],
)
def test_a_rule_that_cannot_be_is_refused(lasting: Any, item: str, body: Any, status: int) -> None:
    answer = lasting.post(f"/api/admin/items/{item}", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_the_overview_counts_what_happened(open_world: OpenFeed, serve: Serve) -> None:
    client = serve(open_world("id"))
    visitor = Visitor(client)
    shown = visitor.next(3)
    visitor.send(*(event_of(exposure, "like") for exposure in shown), event_of(shown[0], "error", reason="no picture"))
    client.app.state.feed.store.flush()
    overview = client.get("/api/admin/overview").json()
    counted = {
        "people": 1, "people_now": 1, "sessions": 1, "sessions_now": 1, "exposures": 3, "events_a_minute": 4,
        "events": {"like": 3, "error": 1}, "items": ITEMS, "uploads": 0,
    }  # fmt: skip
    assert {name: overview[name] for name in counted} == counted
    assert 0 < overview["milliseconds"]["/api/next"]["median"] <= overview["milliseconds"]["/api/next"]["p99"]
    (model,) = overview["models"]
    assert model["model"].startswith("id@")
    assert model["digest"].startswith(model["model"].removeprefix("id@"))
    assert (model["exposures"], model["former"], Path(model["run"]).name) == (3, None, "id")
    (session,) = overview["live"]
    expected = {"session": visitor.session, "person": visitor.person, "model": model["model"], "items": 3, "events": 4}
    assert {**session, **expected} == session
    (error,) = overview["errors"]
    assert (error["item"], error["reason"]) == (shown[0]["item"], "no picture")


def test_rates_and_sessions_are_those_of_the_last_minutes() -> None:
    activity, start = Activity(), 1_000_000_000
    for second in range(120):
        row = {"session": f"s{second % 2}", "person": "p", "kind": "like", "received": start + 1000 * second}
        activity.note_events([row] * 3)
    now = start + 119_000
    assert activity.events_a_minute(now) == 180
    assert activity.events_a_minute(now + 30_000) == 90
    assert activity.events_a_minute(now + 70_000) == 0
    assert [one.session for one in activity.sessions(now)] == ["s1", "s0"]
    assert activity.sessions(now + LIVE_MS + 1) == []


def test_items_are_found_by_id_title_tag_and_rule(world: Path, open_world: OpenFeed, serve: Serve) -> None:
    client = serve(open_world("id"))

    def found(**query: str) -> list[str]:
        answer = client.get("/api/admin/items", params=query).json()
        assert answer["found"] == len(answer["items"])
        return [item["item"] for item in answer["items"]]

    table = pl.read_parquet(world / "dataset" / "items.parquet").select(
        pl.col("item_id").cast(pl.String), "title", "tag"
    )
    newest = table.reverse()
    assert found() == newest["item_id"].to_list()
    assert "7" in found(search="7")
    title, tag = newest["title"][3], newest["tag"][0]
    assert newest["item_id"][3] in found(search=title.upper())
    tagged = newest.filter(pl.col("tag") == tag)["item_id"].to_list()
    assert set(tagged) <= set(found(search=tag.lower()))
    assert found(search="(no such.*") == []
    assert found(among="uploads") == found(among="ruled") == []
    client.post("/api/admin/items/7", json={"state": "taken-down"})
    client.post("/api/admin/items/9", json={"pin": 2})
    assert found(among="ruled") == ["9", "7"]
    states = {item["item"]: item for item in client.get("/api/admin/items").json()["items"]}
    assert (states["7"]["state"], states["7"]["pin"], states["7"]["hidden"]) == ("taken-down", None, False)
    assert (states["9"]["state"], states["9"]["pin"], states["8"]["state"]) == ("active", 2, "active")
    assert client.get("/api/admin/items", params={"among": "none"}).status_code == 422


def test_metrics_count_requests_by_route_exposures_and_events(open_world: OpenFeed, serve: Serve) -> None:
    client = serve(open_world("id"))
    visitor = Visitor(client)
    visitor.send(*(event_of(exposure, "like") for exposure in visitor.next(3)))
    for number in range(20):
        client.get(f"/media/{number}")
        client.get(f"/nowhere/{number}")
    text = client.get("/metrics").text
    assert 'microlens_events_total{kind="like"} 3.0' in text
    model = next(iter(client.app.state.feed.models.serving.values())).id
    assert f'microlens_exposures_total{{model="{model}",reason="popular"}} 3.0' in text
    assert 'microlens_request_seconds_count{method="POST",route="/api/next",status="200"} 1.0' in text
    assert 'route="/media/{item:path}",status="200"} 19.0' in text
    assert 'route="other",status="404"} 20.0' in text
    assert "microlens_people_in_memory 1.0" in text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("preload = 9", "preload: Input should be less than or equal to 5"),
        ("prelaod = 2", "prelaod: Extra inputs are not permitted"),
        ("[feedback]\nthreshold = 0", "feedback.threshold: Input should be greater than 0"),
        ("[exploration]\nkind = 'ucb'", "exploration.kind: Input should be 'epsilon' or 'thompson'"),
        ("[limits", "is not TOML"),
        ("[exploration]\nshare = nan", "must be a finite number"),
    ],
)
def test_settings_are_checked(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "feed.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        FeedSettings.load(path)


def test_settings_are_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "feed.toml"
    path.write_text('blocked_tags = ["News"]\n[feedback]\nlike = 2.5\n[exploration]\nkind = "thompson"\nshare = 0.2\n')
    found = FeedSettings.load(path)
    assert (found.blocked_tags, found.feedback.like, found.exploration.kind) == (("News",), 2.5, "thompson")
    assert found.limits == FeedSettings().limits
