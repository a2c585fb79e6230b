"""Real videos play in the page: HEVC through its web copy, H.264 as it is."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from microlens.data.prepare import prepare
from microlens.data.web_copies import write_web_copies
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
from tests.conftest import write_pairs
from tests.feed.browser.conftest import CURRENT, DESK, LiveFeed, Visit, until
from tests.feed.conftest import train_run

pytestmark = [pytest.mark.real_data, pytest.mark.slow]
VIDEOS = {1: "microlens/10034.mp4", 2: "other/archery.mp4", 3: "other/arm_wrestling.mp4"}


@pytest.fixture(scope="module")
def live(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFeed]:
    folder = tmp_path_factory.mktemp("real")
    write_pairs(folder / "release", [list(range(1, 13))] * 3)
    (folder / "release" / "videos").mkdir()
    for item, name in VIDEOS.items():
        shutil.copy(shared_data / "videos" / name, folder / "release" / "videos" / f"{item}.mp4")
    prepare(folder / "release", folder / "dataset", Settings(clips=ClipSettings(num_frames=1, size=8)), workers=1)
    copies = write_web_copies(folder / "release", folder / "dataset", workers=1)
    assert (copies.written, copies.playable, copies.faults) == (1, 2, ())
    train_run(folder, "popularity", None, model="popularity")
    server = LiveFeed(folder, tmp_path_factory.mktemp("live"), "popularity")
    yield server
    server.stop()


@pytest.mark.parametrize("item", VIDEOS)
def test_a_real_video_plays_with_sound(visit: Visit, item: int) -> None:
    page = visit(DESK, f"?item={item}")
    video = page.locator(f"{CURRENT} video")
    until(lambda: video.evaluate("video => video.currentTime") > 0.5)
    page.keyboard.press("m")
    facts: dict[str, Any] = video.evaluate(
        "video => ({muted: video.muted, paused: video.paused, heard: video.webkitAudioDecodedByteCount, "
        "width: video.videoWidth, height: video.videoHeight})"
    )
    assert (facts["muted"], facts["paused"]) == (False, False)
    assert facts["width"] > facts["height"]
    assert (facts["heard"] > 0) == (item != 3)  # which is silent
