"""Videos and covers: ranges, validators, caching, and what is not there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from microlens.data.dataset import Dataset
from microlens.data.web_copies import WEB_COPIES
from microlens.feed.catalogue import Catalogue
from microlens.feed.settings import FeedSettings
from tests.feed.conftest import ITEMS, OpenFeed, Visitor

Serve = Callable[..., Any]


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-99", 206, slice(0, 100)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=-50", 206, slice(-50, None)),
        ("bytes=0-", 206, slice(None)),
        ("bytes=99999999-", 416, None),
        ("lines=1-2", 400, None),
    ],
)
def test_ranges_are_those_of_the_file(
    world: Path, lasting: TestClient, wanted: str, status: int, part: slice | None
) -> None:
    file = (world / "release" / "videos" / "3.mp4").read_bytes()
    answer = lasting.get("/media/3", headers={"Range": wanted})
    assert answer.status_code == status
    if part is not None:
        assert answer.content == file[part]
        assert answer.headers["content-type"] == "video/mp4"
        assert answer.headers["content-range"].endswith(f"/{len(file)}")


def test_a_file_is_sent_once_and_then_only_checked(world: Path, lasting: TestClient) -> None:
    whole = lasting.get("/media/3")
    assert whole.content == (world / "release" / "videos" / "3.mp4").read_bytes()
    assert whole.headers["accept-ranges"] == "bytes"
    assert "max-age" in whole.headers["cache-control"]
    again = lasting.get("/media/3", headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", whole.headers["etag"])
    changed = lasting.get("/media/3", headers={"Range": "bytes=0-9", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, whole.content)
    head = lasting.head("/media/3")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))


def test_covers_are_pictures(lasting: TestClient) -> None:
    answer = lasting.get("/covers/3")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")


def test_a_web_copy_is_sent_instead_of_the_original(world: Path, tmp_path: Path) -> None:
    dataset = Dataset(world / "dataset")
    catalogue = Catalogue(dataset, world / "release", FeedSettings())
    assert catalogue.item(3).video == world / "release" / "videos" / "3.mp4"
    (world / "dataset" / WEB_COPIES).mkdir()
    try:
        copy = world / "dataset" / WEB_COPIES / "3.mp4"
        copy.write_bytes(b"copy")
        assert catalogue.item(3).video == copy
        assert catalogue.item(3).playable
        copy.unlink()
    finally:
        (world / "dataset" / WEB_COPIES).rmdir()


def test_a_codec_that_browsers_do_not_play_is_named(world: Path) -> None:
    dataset = Dataset(world / "dataset")
    table = dataset.items
    dataset.__dict__["items"] = table.with_columns(codec=table["codec"].to_frame().to_series().replace("h264", "hevc"))
    catalogue = Catalogue(dataset, world / "release", FeedSettings())
    assert [catalogue.item(number).playable for number in range(1, ITEMS + 1)] == [False] * ITEMS


def test_without_a_release_there_are_titles(open_world: OpenFeed, serve: Serve) -> None:
    from microlens.feed.live import Feed

    feed: Feed = open_world("id")
    feed.catalogue._videos.clear()
    feed.catalogue._covers.clear()
    client = serve(feed)
    (exposure,) = Visitor(client).next()
    assert (exposure["video"], exposure["cover"], exposure["playable"]) == (None, None, False)
    assert exposure["title"]
    assert client.get(f"/media/{exposure['item']}").status_code == 404


def test_a_file_that_has_gone_is_a_plain_404(world: Path, lasting: TestClient) -> None:
    path = world / "release" / "videos" / "5.mp4"
    path.rename(path.with_suffix(".away"))
    try:
        answer = lasting.get("/media/5")
        assert (answer.status_code, answer.json()["detail"]) == (404, "the file of the item is gone")
    finally:
        path.with_suffix(".away").rename(path)
