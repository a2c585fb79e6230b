"""New videos in the middle of a simulation: a model of contents shows them at once, one of ids not."""

import itertools
import json
import secrets
import shutil
from pathlib import Path

import pytest
from sqlalchemy import select

import microlens
from microlens.errors import InputError
from microlens.feed.charts import draw_new_shares
from microlens.feed.database import reading
from microlens.feed.models import Models
from microlens.feed.schema import EXPOSURES
from microlens.feed.schema import ITEMS as UPLOADED
from microlens.feed.simulation.new_videos import STEPS
from microlens.release.synthetic_media import write_item
from microlens.release.synthetic_world import build_world
from tests.feed.conftest import ITEMS, OpenFeed, Served

NEW = ("21", "22")


@pytest.fixture
def grown(world: Path, tmp_path: Path) -> Path:
    """The release of the world and two videos more."""
    release = tmp_path / "grown"
    shutil.copytree(world / "release", release)
    later = build_world(30, ITEMS, seed=5)
    truth = json.loads((release / "world.json").read_text(encoding="utf-8"))
    for item in NEW:
        write_item(release, int(item), later.look(int(item) - ITEMS))
        truth["items"][item] = truth["items"]["1"]
    (release / "world.json").write_text(json.dumps(truth), encoding="utf-8")
    with (release / "synthetic_titles.csv").open("a", encoding="utf-8") as file:
        file.write(f"{NEW[0]},a title of its own\n")
    return release


def test_new_videos_are_shown_at_once_by_a_model_of_contents_and_not_by_one_of_ids(
    grown: Path,
    video_run: Path,
    tmp_path: Path,
    open_world: OpenFeed,
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arms, url = itertools.cycle(["video", "id"]), f"sqlite:///{tmp_path}/events.sqlite"
    monkeypatch.setattr(Models, "arm_of", lambda *_: next(arms))
    numbers = itertools.count()
    monkeypatch.setattr(secrets, "token_urlsafe", lambda *_: f"person-{next(numbers)}")  # the same draws every time
    address = served(open_world("video", "id", events=url))
    done = microlens.simulate(grown, address, people=8, videos=18, at_once=1, only="shape", new_videos=2)
    assert set(done.uploaded.values()) == set(NEW)
    with reading(url) as read:
        titles = {row["item"]: row["title"] for row in read(select(UPLOADED))}
        chosen = read(select(EXPOSURES).where(EXPOSURES.c.item.in_(list(done.uploaded)), EXPOSURES.c.reason == "model"))
    assert {done.uploaded[item]: title for item, title in titles.items()} == {
        NEW[0]: "a title of its own",
        NEW[1]: f"New video {NEW[1]}",
    }
    assert {row["model"].partition("@")[0] for row in chosen} == {"video"}
    shares = {model.partition("@")[0]: shares for model, shares in done.new_shares.items()}
    assert all(len(of_arm) == STEPS for of_arm in shares.values())
    assert not any(shares["id"])
    first, second = shares["video"][: STEPS // 2], shares["video"][STEPS // 2 :]
    assert not any(first)
    assert any(second)
    later = microlens.simulate(grown, address, people=2, videos=18, uploaded=done.uploaded)
    assert (later.uploaded, any(any(filter(None, of_arm)) for of_arm in later.new_shares.values())) == (
        done.uploaded,
        True,
    )
    draw_new_shares({"before": done, "now": later}, tmp_path / "shares.png")
    assert (tmp_path / "shares.png").read_bytes().startswith(b"\x89PNG")


def test_a_feed_that_lacks_too_little_is_told(world: Path, open_world: OpenFeed, served: Served) -> None:
    address = served(open_world("id"))
    with pytest.raises(InputError, match=r"lacks 0 videos of .* so that 3 cannot be uploaded"):
        microlens.simulate(world / "release", address, people=1, videos=1, new_videos=3)
    with pytest.raises(InputError, match="new_videos is -1"):
        microlens.simulate(world / "release", address, new_videos=-1)


def test_a_feed_of_ids_refuses_new_videos(grown: Path, open_world: OpenFeed, served: Served) -> None:
    with pytest.raises(InputError, match="refuses /api/items: no model of this feed can rank a new video"):
        microlens.simulate(grown, served(open_world("id")), people=2, videos=1, new_videos=1)
