"""The page in a real browser: it plays, swipes, records what people do, and loses nothing while the server is away."""

import time
from pathlib import Path
from typing import Any

import pytest

from microlens.data.web_copies import WEB_COPIES
from microlens.media.web_encoding import encode_for_browsers
from tests.feed.browser.conftest import CURRENT, DESK, PHONE, LiveFeed, Visit, until
from tests.videos import HEIGHT, WIDTH, encode

PLAYED = f"document.querySelector('{CURRENT} video').currentTime"
PICTURE = f"""() => {{
    const canvas = document.createElement("canvas"), video = document.querySelector("{CURRENT} video");
    [canvas.width, canvas.height] = [32, 32];
    canvas.getContext("2d").drawImage(video, 0, 0, 32, 32);
    return Array.from(canvas.getContext("2d").getImageData(0, 0, 32, 32).data);
}}"""
LOADED = "[...document.querySelectorAll('article')].map(article => article.querySelector('video').hasAttribute('src'))"


def title(page: Any) -> str:
    return page.locator(f"{CURRENT} .title").inner_text()


def playing(page: Any, seconds: float = 0.2) -> float:
    return until(lambda: (page.evaluate(PLAYED) > seconds) and page.evaluate(PLAYED))


def swipe(page: Any) -> None:
    """A finger moves up over the screen."""
    session = page.context.new_cdp_session(page)
    x, y = page.viewport_size["width"] / 2, 0.8 * page.viewport_size["height"]
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 11):
        session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y - 45 * step}]})
        time.sleep(0.016)
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def turn_wheel(page: Any) -> None:
    size = page.viewport_size
    page.mouse.move(size["width"] / 2, size["height"] / 2)
    page.mouse.wheel(0, 100)


def is_within(box: dict[str, float], screen: dict[str, int]) -> bool:
    across = 0 <= box["x"] <= box["x"] + box["width"] <= screen["width"]
    return across and 0 <= box["y"] <= box["y"] + box["height"] <= screen["height"]


def changes(page: Any, action: Any) -> str:
    """The title of the video that comes after an action."""
    until(lambda: page.evaluate(f"document.querySelector('{CURRENT}').nextElementSibling !== null"))
    before = title(page)
    action(page)
    until(lambda: title(page) != before)
    until(lambda: abs(page.locator(CURRENT).bounding_box()["y"]) < 1)
    return title(page)


@pytest.mark.parametrize(("size", "move"), [(PHONE, swipe), (DESK, turn_wheel)], ids=["phone", "desk"])
def test_videos_play_and_give_way_to_the_next(live: LiveFeed, visit: Visit, size: dict[str, Any], move: Any) -> None:
    page = visit(size)
    playing(page)
    first = page.evaluate(PICTURE)
    until(lambda: page.evaluate(PICTURE) != first)
    assert page.evaluate(f"document.querySelector('{CURRENT} video').muted")
    until(lambda: page.evaluate(LOADED) == [True, True, True])
    titles = {title(page), changes(page, move)}
    playing(page)
    titles.add(changes(page, move))
    assert len(titles) == 3
    until(lambda: page.evaluate(LOADED) == [False, False, True, True, True])
    assert page.evaluate("document.documentElement.scrollWidth") == size["viewport"]["width"]
    until(lambda: is_within(page.locator(f"{CURRENT} video").bounding_box(), size["viewport"]))
    events = live.stored(page, "impression", "start", "end", "impression", "start", "end", "impression")
    shown = [(event["request_id"], event["position"]) for event in events if event["kind"] == "impression"]
    assert [position for _, position in shown] == [0, 1, 2]
    for end in [event for event in events if event["kind"] == "end"]:
        assert end["watched_ms"] > 100
        assert end["duration_ms"] == 2500


def test_what_was_watched_is_the_time_on_the_clock_of_the_video(live: LiveFeed, visit: Visit) -> None:
    page = visit(DESK)
    playing(page)
    until(lambda: page.evaluate(PLAYED) > 1.5)
    until(lambda: page.evaluate(PLAYED) < 1.0)
    page.keyboard.press("Space")
    until(lambda: page.evaluate(f"document.querySelector('{CURRENT} video').paused"))
    position = 1000 * page.evaluate(PLAYED)
    time.sleep(0.5)  # is not watched
    changes(page, turn_wheel)
    (end,) = [event for event in live.stored(page, "end") if event["kind"] == "end"]
    assert end["loops"] >= 1
    assert end["watched_ms"] == pytest.approx(2500 * end["loops"] + position, abs=80)


def test_keys_move_pause_and_switch_the_sound(visit: Visit) -> None:
    page = visit(DESK)
    first = title(page)
    second = changes(page, lambda page: page.keyboard.press("ArrowDown"))
    assert changes(page, lambda page: page.keyboard.press("ArrowUp")) == first
    assert changes(page, lambda page: page.keyboard.press("PageDown")) == second
    playing(page, 0)
    page.keyboard.press("Space")
    paused = until(lambda: page.evaluate(f"document.querySelector('{CURRENT} video').paused && {PLAYED}"))
    assert page.locator("#spoken").inner_text() == "Paused"
    page.keyboard.press("m")
    assert not page.evaluate(f"document.querySelector('{CURRENT} video').muted")
    assert page.locator("#sound").get_attribute("aria-pressed") == "true"
    assert page.evaluate(PLAYED) == paused
    page.keyboard.press("Space")
    until(lambda: page.evaluate(PLAYED) != paused)
    page.locator(f"{CURRENT} [data-action=like]").focus()
    page.keyboard.press("Space")  # presses the button instead
    assert page.locator(f"{CURRENT} [data-action=like]").get_attribute("aria-pressed") == "true"
    changes(page, lambda page: page.keyboard.press("ArrowDown"))
    assert page.evaluate(f"document.activeElement === document.querySelector('{CURRENT}')")


def test_the_late_end_of_an_earlier_movement_moves_nothing(live: LiveFeed, visit: Visit) -> None:
    page = visit(DESK)
    first = title(page)
    page.evaluate("""() => {
        document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true }));
        document.getElementById("feed").dispatchEvent(new Event("scrollend"));
    }""")
    assert title(page) != first
    until(lambda: abs(page.locator(CURRENT).bounding_box()["y"]) < 1)
    page.keyboard.press("Space")
    shown = [event["position"] for event in live.stored(page, "end", "progress") if event["kind"] == "impression"]
    assert shown == [0, 1]


def test_what_people_do_is_stored(live: LiveFeed, visit: Visit) -> None:
    page = visit(PHONE, permissions=["clipboard-read", "clipboard-write"])
    likes = page.locator(f"{CURRENT} [data-action=like] .count")
    for action in ("like", "favourite", "share"):
        page.locator(f"{CURRENT} [data-action={action}]").tap()
    page.locator(f"{CURRENT} [data-action=comment]").tap()
    page.locator("#comment-text").fill("<b>bold</b> & 'quoted' \u4f60\u597d")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    events = live.stored(page, "like", "favourite", "share", "comment")
    assert {event["position"] for event in events} == {0}
    said = next(event["text"] for event in events if event["kind"] == "comment")
    assert said == "<b>bold</b> & 'quoted' \u4f60\u597d"
    item = events[0]["item"]
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == f"{live.address}?item={item}"

    page.locator(f"{CURRENT} [data-action=comment]").tap()
    comment = page.locator("#comments li .text")
    until(lambda: comment.all_inner_texts() == [said])  # the second time from the server
    assert comment.locator("*").count() == 0
    page.keyboard.press("Escape")

    shared = visit.open(page.context, link.removeprefix(live.address))
    assert title(shared) == title(page)
    liked = shared.locator(f"{CURRENT} [data-action=like]")
    assert liked.get_attribute("aria-pressed") == "true"
    assert liked.locator(".count").inner_text() == likes.inner_text()
    liked.tap()
    shared.locator(f"{CURRENT} [data-action=favourite]").tap()
    changes(shared, lambda page: page.locator(f"{CURRENT} [data-action=not-interested]").tap())
    shared.locator(f"{CURRENT} .stage").dblclick()
    until(lambda: shared.locator(f"{CURRENT} [data-action=like]").get_attribute("aria-pressed") == "true")
    live.stored(page, "unlike", "unfavourite", "not-interested", "like")


def test_nothing_is_lost_while_the_server_is_away(live: LiveFeed, visit: Visit) -> None:
    page = visit(DESK)
    live.stored(page, "impression")
    live.stop()
    try:
        page.locator(f"{CURRENT} [data-action=like]").click()
        page.locator("#away").wait_for()
        changes(page, lambda page: page.keyboard.press("ArrowDown"))  # it was loaded ahead
        page.locator(f"{CURRENT} [data-action=favourite]").click()
        page.close()
    finally:
        live.start()
    again = visit.open(visit.contexts[0])
    live.stored(again, "impression", "like", "end", "impression", "favourite")
    until(lambda: again.evaluate("localStorage.length") == 0)
    live.stop()
    again.locator(f"{CURRENT} [data-action=share]").click()
    again.locator("#away").wait_for()
    live.start()
    live.stored(again, "favourite", "share")
    again.locator("#away").wait_for(state="hidden")
    events = live.events(again)
    assert len({event["event"] for event in events}) == len(events)
    assert sum(event["kind"] == "like" for event in events) == 1
    for _ in range(3):  # the feed goes on
        changes(again, lambda page: page.keyboard.press("ArrowDown"))
    assert visit.mistakes
    assert all("ERR_CONNECTION_REFUSED" in mistake for mistake in visit.mistakes)
    visit.mistakes.clear()


def test_what_was_watched_is_sent_when_the_page_closes(live: LiveFeed, visit: Visit) -> None:
    page = visit(DESK)
    playing(page, 0.5)
    page.evaluate("() => { window.fetch = () => new Promise(() => {}); }")  # only the beacon is left
    page.goto("about:blank")
    progress = [event for event in live.stored(page, "progress") if event["kind"] == "progress"]
    assert progress[-1]["watched_ms"] >= 400


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_a_web_copy_of_a_landscape_video_is_shown_whole(
    live: LiveFeed, visit: Visit, size: dict[str, Any], tmp_path: Path
) -> None:
    copies = live.feed.catalogue.dataset.folder / WEB_COPIES
    copies.mkdir(exist_ok=True)
    try:
        encode_for_browsers(encode(tmp_path / "video.mp4", "hevc, one keyframe"), copies / "4.mp4")
        page = visit(size, f"?item={live.feed.catalogue.id(4)}")
        playing(page)
        video = page.locator(f"{CURRENT} video")
        assert video.evaluate("video => [video.videoWidth, video.videoHeight]") == [WIDTH, HEIGHT]
        assert video.evaluate("video => getComputedStyle(video).objectFit") == "contain"
        assert is_within(video.bounding_box(), size["viewport"])
        assert video.bounding_box()["width"] >= 0.8 * size["viewport"]["width"]
    finally:
        (copies / "4.mp4").unlink()
        copies.rmdir()


def test_a_broken_video_is_skipped_and_reported(live: LiveFeed, visit: Visit) -> None:
    page = visit(DESK)
    playing(page)
    broken: list[str] = []

    def fail(route: Any) -> None:
        if not broken:
            broken.append(route.request.url.rpartition("/")[2])
        if route.request.url.endswith(f"/{broken[0]}"):
            route.fulfill(body=b"this is no video", content_type="video/mp4")
        else:
            route.continue_()

    page.context.route("**/media/*", fail)
    for _ in range(3):
        changes(page, lambda page: page.keyboard.press("ArrowDown"))
        playing(page)
    events = live.stored(page, "error")
    (error,) = [event for event in events if event["kind"] == "error"]
    assert error["item"] == broken[0]
    assert error["text"]
    assert error["item"] not in [event["item"] for event in events if event["kind"] == "impression"]


def test_without_videos_there_are_covers_and_without_covers_titles(
    live: LiveFeed, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live.feed.catalogue, "_videos", {})
    page = visit(PHONE, "?why")
    cover = page.locator(f"{CURRENT} .cover")
    until(lambda: cover.evaluate("image => image.complete && image.naturalWidth > 0"))
    assert page.locator("#why dt").all_inner_texts()[:3] == ["Model", "Reason", "Score"]
    assert "popular" in page.locator("#why").inner_text()
    monkeypatch.setattr(live.feed.catalogue, "_covers", {})
    page = visit(PHONE)
    assert page.locator(f"{CURRENT} .card").inner_text() == title(page)
    assert page.locator("#why").is_hidden()


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_axe_finds_nothing(visit: Visit, size: dict[str, Any]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit(size, "?why", reduced_motion="reduce")
    playing(page)
    found = axe.run(page).response["violations"]
    page.locator(f"{CURRENT} [data-action=comment]").click()
    page.locator("#comments .empty:visible, #comments li").first.wait_for()
    found += axe.run(page, "#comments").response["violations"]
    assert [(violation["id"], violation["nodes"][0]["html"]) for violation in found] == []
