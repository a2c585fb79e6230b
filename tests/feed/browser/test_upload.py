"""Uploading in a real browser: a video is sent, found and played, and what goes wrong is said."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from microlens.media import untrusted_videos
from tests.feed import upload_workers
from tests.feed.browser.conftest import CURRENT, DESK, PHONE, LiveFeed, Visit, until
from tests.feed.browser.test_page import is_within

PLAYED = f"document.querySelector('{CURRENT} video').currentTime"


@pytest.fixture(scope="module")
def live(world: Path, video_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFeed]:
    """A feed whose model reads videos."""
    server = LiveFeed(world, tmp_path_factory.mktemp("live"), video_run.name)
    yield server
    server.stop()


RESTS = "sheet => sheet.getAnimations({ subtree: true }).every((animation) => animation.playState !== 'running')"


def fill(page: Any, video: Path, title: str) -> None:
    page.locator("#upload-file").set_input_files(video)
    page.locator("#upload-title").fill(title)
    page.locator("#upload-tag").fill("New")


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_a_video_is_uploaded_found_and_played(live: LiveFeed, visit: Visit, clip: Path, size: dict[str, Any]) -> None:
    before = len(live.feed.catalogue)
    page = visit(size)
    page.locator("#upload").press("Enter")
    sheet = page.locator("#upload-sheet")
    assert sheet.locator("#upload-limits").inner_text() == "At most 100 MB and 3 minutes."
    until(lambda: is_within(sheet.bounding_box(), size["viewport"]))  # it rises
    until(lambda: sheet.evaluate(RESTS))
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    assert axe.run(page, "#upload-sheet").response["violations"] == []
    fill(page, clip, 'A <b>"new"</b> one')
    page.locator("#upload-title").press("Enter")
    link = sheet.locator(".watch")
    link.wait_for()
    assert sheet.locator(".state").inner_text() == '"A <b>"new"</b> one" is in the feed now.'
    assert len(live.feed.catalogue) == before + 1
    assert axe.run(page, "#upload-sheet").response["violations"] == []
    link.press("Enter")  # it has the focus
    page.locator(f"{CURRENT} .title", has_text='A <b>"new"</b> one').wait_for()
    assert page.locator(f"{CURRENT} .tag").inner_text() == "New"
    until(lambda: page.evaluate(PLAYED) > 0.2)


def test_what_is_refused_is_said_and_can_be_put_right(
    live: LiveFeed, visit: Visit, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visit(PHONE)
    page.locator("#upload").tap()
    fault, submit = page.locator("#upload-sheet .fault"), page.locator("#upload-sheet [type=submit]")
    submit.tap()
    assert page.evaluate("document.activeElement.id") == "upload-file"  # is required
    (tmp_path / "a.mp4").write_text("no video")
    fill(page, tmp_path / "a.mp4", "A new one")
    submit.tap()
    until(fault.inner_text)
    assert fault.inner_text().startswith("The file cannot be used: not a media file of a known kind")
    assert page.locator("#upload-title").input_value() == "A new one"
    with (tmp_path / "large.mp4").open("wb") as file:
        file.truncate(101 * 2**20)
    page.locator("#upload-file").set_input_files(tmp_path / "large.mp4")
    submit.tap()
    until(lambda: fault.inner_text() == "The file has 101 MB; accepted are up to 100 MB.")
    monkeypatch.setattr(untrusted_videos, "_copy_within_limits", upload_workers.die)
    page.locator("#upload-file").set_input_files(clip)
    submit.tap()
    until(lambda: fault.inner_text() == "The file cannot be used: decoding it kills the process (SIGSEGV).")
    visit.mistakes[:] = [said for said in visit.mistakes if "status of 422" not in said]  # the browser says that, too
    page.keyboard.press("Escape")
    assert not page.locator("#upload-sheet").is_visible()
    assert page.evaluate("document.activeElement.id") == "upload"


def test_uploading_can_be_stopped(live: LiveFeed, visit: Visit, tmp_path: Path) -> None:
    before = len(live.feed.catalogue)
    page = visit(DESK)
    page.locator("#upload").click()
    with (tmp_path / "large.mp4").open("wb") as file:
        file.truncate(60 * 2**20)
    network = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 2**20}
    network.send("Network.emulateNetworkConditions", slow)
    fill(page, tmp_path / "large.mp4", "A new one")
    page.locator("#upload-sheet [type=submit]").click()
    until(lambda: page.locator("#upload-sheet progress").evaluate("bar => bar.value > 0"))
    assert page.evaluate("document.activeElement.className") == "cancel"
    page.keyboard.press("Enter")
    until(lambda: page.locator("#upload-sheet .state").inner_text() == "The upload was stopped.")
    until(lambda: live.feed.publisher._running == set())  # type: ignore[union-attr]
    assert len(live.feed.catalogue) == before


def test_where_nothing_can_be_uploaded_nothing_is_offered(
    live: LiveFeed, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live.feed, "publisher", None)
    page = visit(PHONE)
    assert page.locator("#upload").is_hidden()
