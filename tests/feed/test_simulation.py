"""Simulated people over the real HTTP API."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

import microlens
from microlens.data.prepare import prepare
from microlens.errors import InputError
from microlens.feed.charts import draw_like_rates
from microlens.feed.database import reading
from microlens.feed.schema import EVENTS, EXPOSURES
from microlens.feed.server.running import open_feed
from microlens.feed.settings import FeedSettings
from microlens.feed.simulation.truth import Truth
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
from microlens.release.synthetic import write_release
from tests.feed.conftest import NO_EXPLORATION, OpenFeed, Served, train_run

TOKEN = "a" * 16


def test_the_like_rate_is_the_mean_truth_of_what_was_shown(
    world: Path, tmp_path: Path, open_world: OpenFeed, served: Served
) -> None:
    url = f"sqlite:///{tmp_path}/events.sqlite"
    address = served(open_world("id", "popularity", events=url), token=TOKEN)
    done = microlens.simulate(world / "release", address, people=6, videos=5, seed=3, at_once=3, token=TOKEN)
    truth = Truth.load(world / "release")
    rng = np.random.default_rng([3])
    users = [truth.users[index] for index in rng.integers(len(truth.users), size=6)]
    assert done.chance == pytest.approx(truth.average(users))
    with reading(url) as read:
        exposures, events = read(select(EXPOSURES)), read(select(EVENTS))
    people = {row["person"] for row in exposures}
    assert (len(exposures), len(people)) == (30, 6)
    assert {row["model"] for row in exposures} == set(done.models)
    assert sum(rate.people for rate in done.models.values()) == 6
    assert [len(curve) for curve in done.curves.values()] == [5] * len(done.models)
    total = sum(rate.mean * rate.people for rate in done.models.values())
    assert total == pytest.approx(sum(done.of_people))
    for user, mean in zip(users, done.of_people, strict=True):  # which person has which taste is not recorded
        assert any(np.mean(_likings(truth, user, exposures, person)) == pytest.approx(mean) for person in people)
    assert {row["kind"] for row in events} >= {"impression", "start", "end"}
    liked = {(row["request_id"], row["position"]) for row in events if row["kind"] == "like"}
    for row in events:
        if row["kind"] == "end" and (row["request_id"], row["position"]) in liked:
            assert row["watched_ms"] >= 0.79 * row["duration_ms"]


def _likings(truth: Truth, user: str, exposures: Any, person: str) -> list[float]:
    return [truth.liking(user, row["item"]) for row in exposures if row["person"] == person]


def test_people_have_the_tastes_of_the_world(tmp_path: Path) -> None:
    tastes = {"colour": "red", "backdrop": "sea"}
    items = {"1": tastes, "2": {"colour": "red", "backdrop": "sand"}, "3": {"colour": "blue", "backdrop": "sand"}}
    world = {"weights": {"colour": 3.5, "backdrop": 3.0}, "items": items, "users": {"7": tastes}}
    (tmp_path / "world.json").write_text(json.dumps(world), encoding="utf-8")
    truth = Truth.load(tmp_path)
    expected = [1 / (1 + math.exp(4.5 - utility)) for utility in (6.5, 3.5, 0.0)]
    assert [truth.liking("7", item) for item in items] == pytest.approx(expected)
    assert truth.average(["7"]) == pytest.approx(np.mean(expected))
    with pytest.raises(InputError, match=r"shows item 4, which world\.json does not have"):
        truth.liking("7", "4")


def test_the_same_people_are_compared_within_themselves(
    world: Path, tmp_path: Path, open_world: OpenFeed, served: Served
) -> None:
    address = served(open_world("id"))
    first, second = (
        microlens.simulate(world / "release", address, people=3, videos=videos, seed=1) for videos in (2, 4)
    )
    ahead = second.ahead_of(first)
    assert ahead.mean == pytest.approx(np.mean(second.of_people) - np.mean(first.of_people))
    other = microlens.simulate(world / "release", address, people=2, videos=1)
    with pytest.raises(InputError, match="have other people"):
        other.ahead_of(first)
    draw_like_rates({"before": first, "now": second}, tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_a_feed_that_is_used_up_begins_again_and_a_limit_of_requests_is_waited_for(
    world: Path, open_world: OpenFeed, served: Served
) -> None:
    address = served(open_world("id", settings={"limits": {"requests_a_minute": 1200}}))
    done = microlens.simulate(world / "release", address, people=1, videos=62)
    assert len(next(iter(done.curves.values()))) == 62


def test_what_cannot_be_simulated_is_said(world: Path, tmp_path: Path, open_world: OpenFeed, served: Served) -> None:
    with pytest.raises(InputError, match="name a release made by microlens data synth"):
        microlens.simulate(tmp_path)
    with pytest.raises(InputError, match=r"at http://127\.0\.0\.1:1 does not answer"):
        microlens.simulate(world / "release", "http://127.0.0.1:1", people=2)
    with pytest.raises(InputError, match="people is 0"):
        microlens.simulate(world / "release", people=0)
    address = served(open_world("id"), token=TOKEN)
    with pytest.raises(InputError, match="a token is needed"):
        microlens.simulate(world / "release", address, people=1)
    damaged = json.loads((world / "release/world.json").read_text(encoding="utf-8"))
    del damaged["items"]
    (tmp_path / "world.json").write_text(json.dumps(damaged), encoding="utf-8")
    with pytest.raises(InputError, match="items"):
        Truth.load(tmp_path)


@pytest.mark.published
def test_a_trained_model_finds_what_people_like(tmp_path: Path, served: Served) -> None:
    write_release(tmp_path / "release", users=1000, items=80, seed=2, workers=1)
    media = Settings(clips=ClipSettings(num_frames=1, size=32), cover_size=32)
    prepare(tmp_path / "release", tmp_path / "dataset", media, workers=1)
    run = train_run(tmp_path, "ease", None, model="ease")
    settings = FeedSettings.model_validate(NO_EXPLORATION)
    address = served(open_feed([run], f"sqlite:///{tmp_path}/events.sqlite", settings))
    done = microlens.simulate(tmp_path / "release", address, people=50, videos=10)
    (rate,) = done.models.values()
    assert rate.low > done.chance
