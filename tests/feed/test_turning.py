"""A feed turns to what a person likes: the share of a colour in the twenty videos after the first twenty."""

import itertools
import json
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microlens
from microlens.data.prepare import prepare
from microlens.errors import InputError
from microlens.feed.server.running import open_feed
from microlens.feed.settings import FeedSettings
from microlens.feed.simulation.truth import Truth
from microlens.release.synthetic_media import COLOURS
from microlens.release.synthetic_tables import write_interactions, write_items, write_truth
from microlens.release.synthetic_world import build_world
from tests.feed.conftest import NO_EXPLORATION, Served, train_run

PEOPLE = 4  # for each colour; the first videos of one may hold nothing of it


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's release without its media, prepared, and EASE trained on it."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "release").mkdir()
    world = build_world(users=2000, items=400, seed=0)
    write_interactions(folder / "release", world)
    write_items(folder / "release", world)
    write_truth(folder / "release/world.json", world)
    prepare(folder / "release", folder / "dataset", workers=1)
    train_run(folder, "ease", None, model="ease")
    return folder


def one_taste(release: Path, folder: Path, colour: str) -> tuple[Path, float]:
    """A folder with the truth of a release in which everybody likes a colour, and the colour's share of the items."""
    world: dict[str, Any] = json.loads((release / "world.json").read_text(encoding="utf-8"))
    world["users"] = {user: facts for user, facts in world["users"].items() if facts["colour"] == colour}
    (folder / colour).mkdir()
    (folder / colour / "world.json").write_text(json.dumps(world), encoding="utf-8")
    return folder / colour, float(np.mean([item["colour"] == colour for item in world["items"].values()]))


@pytest.mark.slow
def test_after_twenty_swipes_on_one_colour_the_feed_has_turned_to_it(
    tables: Path, tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count()
    monkeypatch.setattr(secrets, "token_urlsafe", lambda *_: f"person-{next(numbers)}")  # the same draws every time
    settings = FeedSettings.model_validate(NO_EXPLORATION)
    address = served(open_feed([tables / "ease"], f"sqlite:///{tmp_path}/events.sqlite", settings))
    rises = []
    for colour in COLOURS:
        release, share = one_taste(tables / "release", tmp_path, colour)
        done = microlens.simulate(release, address, people=PEOPLE, videos=40, at_once=PEOPLE, only="colour")
        (curve,) = done.curves.values()
        first, following = (np.mean([rate.mean for rate in part]) for part in (curve[:20], curve[20:]))
        assert done.chance == pytest.approx(share)
        assert following > 4 * share, colour
        rises.append(following - first)
    assert np.mean(rises) > 0


def test_people_who_like_only_a_colour_like_nothing_else(world: Path) -> None:
    truth = Truth.load(world / "release", "colour")
    found = json.loads((world / "release/world.json").read_text(encoding="utf-8"))
    user = truth.users[0]
    likings = {item: truth.liking(user, item) for item in found["items"]}
    assert likings == {
        item: facts["colour"] == found["users"][user]["colour"] for item, facts in found["items"].items()
    }
    with pytest.raises(InputError, match="there is no attribute 'mood'"):
        Truth.load(world / "release", "mood")
