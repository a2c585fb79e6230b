"""Uploaded items: ranked from the next request on, by every model that reads videos, and after a restart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import microlens as ml
from microlens.errors import InputError
from microlens.feed.live import Feed
from microlens.feed.people import now_ms
from tests.feed.conftest import ITEMS, OpenFeed, Visitor, event_of

Serve = Callable[..., Any]


def row(clip: Path, item: str, title: str = "A new one") -> dict[str, Any]:
    facts = {"width": 144, "height": 256, "duration_ms": 2500, "person": None, "cover": None}
    return {"item": item, "title": title, "tag": "New", "path": str(clip), "created": now_ms(), **facts}


def scores_after(feed: Feed, arm: str, items: list[str]) -> dict[str, float]:
    numbers = [feed.catalogue.number(item) or 0 for item in items]
    scores = feed.models.serving[arm].scores(numbers)
    return {feed.catalogue.id(number): float(scores[number]) for number in range(1, len(feed.catalogue) + 1)}


def test_an_upload_is_ranked_as_recommend_ranks_a_new_video(
    world: Path, video_run: Path, clip: Path, open_world: OpenFeed, serve: Serve, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/events.sqlite"
    feed = open_world("video", events=url)
    client = serve(feed)
    visitor = Visitor(client)
    first = visitor.next(2)
    visitor.send(*(event_of(exposure, "like") for exposure in first))
    number = feed.uploads.add(row(clip, "21"))
    assert (number, feed.catalogue.number("21"), len(feed.catalogue)) == (ITEMS + 1, ITEMS + 1, ITEMS + 1)
    history = [exposure["item"] for exposure in first]
    table = ml.load(video_run).recommend(history=history, add_video=clip, k=ITEMS + 1)
    expected = {item or "21": score for item, score in zip(table["item"].cast(str), table["score"], strict=True)}
    found = scores_after(feed, "video", history)
    assert {item: score for item, score in found.items() if item not in history} == expected
    served = [exposure["item"] for count in (5, 5, 5, 4) for exposure in visitor.next(count)]
    assert served == [item for item in expected if item not in history][: len(served)]
    (shown,) = (exposure for exposure in Visitor(client).next(item="21", why=True))
    assert (shown["title"], shown["why"]["cold"], shown["playable"]) == ("A new one", True, True)
    assert client.get(shown["video"]).content == clip.read_bytes()
    client.__exit__(None, None, None)
    again = open_world("video", events=url)
    assert scores_after(again, "video", history) == found
    assert again.counts.exposures[number] == 2
    again.close()


def test_a_new_model_knows_the_uploads_and_one_of_ids_does_not(
    world: Path, video_run: Path, clip: Path, open_world: OpenFeed, serve: Serve
) -> None:
    feed = open_world("video", "id")
    feed.uploads.add(row(clip, "21"))
    assert scores_after(feed, "id", ["3"])["21"] == -float("inf")
    before = scores_after(feed, "video", ["3"])
    feed.replace_model(video_run, "video")
    assert scores_after(feed, "video", ["3"]) == before
    feed.uploads.add(row(clip, "22"))
    feed.back("video")
    after = scores_after(feed, "video", ["3"])
    assert {item: after[item] for item in before} == before
    assert after["22"] == after["21"]
    liked = scores_after(feed, "video", ["21"])
    assert liked["21"] == -float("inf")
    assert liked["22"] > -float("inf")
    feed.close()


def test_a_fusion_ranks_an_upload_by_its_title_and_nothing_else_changes(
    fusion_run: Path, clip: Path, open_world: OpenFeed, serve: Serve, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/events.sqlite"
    feed = open_world("fusion", events=url)
    title = str(feed.catalogue.item(7).title)
    before = scores_after(feed, "fusion", ["3", "9"])
    titles = {"21": title, "22": "Nobody knows any of it", "23": title}
    for item, own in titles.items():
        feed.uploads.add(row(tmp_path / "gone.mp4", item, own))
    found = scores_after(feed, "fusion", ["3", "9"])
    assert {item: found[item] for item in before} == before
    assert found["21"] == found["23"] != found["22"]
    new = [ml.NewItem(title=own) for own in titles.values()]
    table = ml.load(fusion_run).recommend(history=["3", "9"], new_items=new, k=ITEMS)
    told = table.filter(table["item"].is_null())
    assert dict(told.select("title", "score").iter_rows()) == {own: found[item] for item, own in titles.items()}
    assert scores_after(feed, "fusion", ["3", "21"])["21"] == -float("inf")
    assert scores_after(feed, "fusion", ["3", "21"]) != scores_after(feed, "fusion", ["3", "22"])
    feed.close()
    again = open_world("fusion", events=url)
    assert scores_after(again, "fusion", ["3", "9"]) == found
    again.close()


def test_each_model_ranks_an_upload_by_what_it_reads(
    fusion_run: Path, video_run: Path, clip: Path, open_world: OpenFeed, tmp_path: Path
) -> None:
    """And so does a model of another kind that replaces it, after a restart, too."""
    url = f"sqlite:///{tmp_path}/events.sqlite"
    feed = open_world("video", "id", events=url)
    assert feed.uploads.ranked_by == ["video"]
    feed.uploads.add(row(clip, "21"))
    by_video = scores_after(feed, "video", ["3"])
    feed.replace_model(fusion_run, "id")
    assert feed.uploads.ranked_by == ["video", "title"]
    by_title = scores_after(feed, "id", ["3"])
    assert -float("inf") < by_title["21"] != by_video["21"]
    feed.uploads.add(row(tmp_path / "unreadable.mp4", "22"))
    assert scores_after(feed, "id", ["3"])["22"] == by_title["21"]
    assert scores_after(feed, "video", ["3"])["22"] == -float("inf")
    feed.back("id")
    assert scores_after(feed, "id", ["3"])["21"] == -float("inf")
    feed.close()
    again = open_world("fusion", "video", events=url)
    assert scores_after(again, "video", ["3"])["21"] == by_video["21"]
    assert scores_after(again, "fusion", ["3"])["21"] == by_title["21"]
    again.close()


def test_an_upload_without_title_is_refused_where_nothing_else_is_read(
    fusion_run: Path, clip: Path, open_world: OpenFeed
) -> None:
    feed = open_world("fusion")
    with pytest.raises(InputError, match="which ranks new items by title: it has no title"):
        feed.uploads.add(row(clip, "21", ""))
    assert (feed.store.uploads(), len(feed.catalogue)) == ([], ITEMS)
    feed.close()


def test_a_feed_of_ids_says_that_it_cannot_rank_a_new_video(open_world: OpenFeed, clip: Path) -> None:
    feed = open_world("id")
    with pytest.raises(InputError, match="no model of this feed can rank a new video"):
        feed.uploads.add(row(clip, "21"))
    assert (feed.store.uploads(), len(feed.catalogue)) == ([], ITEMS)
    feed.close()


def test_what_cannot_be_decoded_is_not_stored(video_run: Path, open_world: OpenFeed, tmp_path: Path) -> None:
    feed = open_world("video")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match="cannot be used"):
        feed.uploads.add(row(tmp_path / "text.mp4", "21"))
    assert (feed.store.uploads(), len(feed.catalogue)) == ([], ITEMS)
    feed.close()


def test_counts_that_are_read_while_an_item_is_added_have_a_place_for_it(
    video_run: Path, open_world: OpenFeed, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = open_world("video")
    original, added = feed.store.read, []

    def read(statement: Any) -> Any:
        if not added:
            added.append("21")
            feed.uploads.add(row(clip, "21"))
            return [{"item": "21", "count": 1}]
        return original(statement)

    monkeypatch.setattr(feed.store, "read", read)
    feed.counts.load(feed.store)
    feed.counts.add_exposure(feed.catalogue.number("21") or 0)
    for name in ("interactions", "exposures", "views", "likes", "comments", "ends", "watched"):
        assert len(getattr(feed.counts, name)) == len(feed.catalogue.active) == ITEMS + 2
    feed.close()
