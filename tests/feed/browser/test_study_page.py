"""A study in a real browser: consent, videos, questions, thanks, and links that admit nobody."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import microlens
from microlens.feed.study.orders import order_of
from microlens.feed.study.settings import StudySettings
from tests.feed.browser.conftest import CURRENT, DESK, PHONE, LiveFeed, Visit, until
from tests.feed.browser.test_page import playing, swipe, title

STUDY = StudySettings.model_validate(
    {
        "name": "colours",
        "title": "Which <b>colours</b>?",
        "consent": "You will watch videos.\n\nWe record what you watch.",
        "videos": 2,
        "questions": [
            {"name": "liked", "text": "Did you like this part?", "choices": ["no", "a bit", "yes"], "after": "part"},
            {"name": "remarks", "text": "What did you notice?", "required": False},
        ],
    }
)
SHEET = "#study[open]"


@pytest.fixture(scope="module")
def live(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFeed]:
    server = LiveFeed(world, tmp_path_factory.mktemp("study"), "id", "other-id", study=STUDY)
    yield server
    server.stop()


Open = Callable[..., Any]


@pytest.fixture
def invited(live: LiveFeed, visit: Visit) -> Iterator[Open]:
    """Opens the link of a new participant in a new browser; answers of 403 are part of the study."""

    def open_(size: dict[str, Any], **options: Any) -> Any:
        ((number, link),) = microlens.invite_participants(live.events_url, "colours", 1, live.address)
        page = visit.open(visit.browser(size, **options), link.removeprefix(live.address), SHEET)
        page.number = number
        return page

    yield open_
    assert all("403" in mistake for mistake in visit.mistakes)
    visit.mistakes.clear()


def heading(page: Any) -> str:
    text: str = page.locator(f"{SHEET} h2").inner_text()
    return text


def agree(page: Any) -> None:
    page.get_by_role("button", name="I agree and take part").click()
    videos_come(page)


def videos_come(page: Any) -> None:
    page.locator(SHEET).wait_for(state="detached")
    page.locator(CURRENT).wait_for()


def next_video(page: Any, move: Callable[[Any], None]) -> None:
    before = title(page)
    move(page)
    until(lambda: title(page) != before)
    until(lambda: abs(page.locator(CURRENT).bounding_box()["y"]) < 1)


def test_a_whole_study_on_a_phone(live: LiveFeed, visit: Visit, invited: Open) -> None:
    page = invited(PHONE)
    assert heading(page) == "Which <b>colours</b>?"
    assert page.locator(f"{SHEET} .text p").all_inner_texts() == ["You will watch videos.", "We record what you watch."]
    assert page.evaluate("document.activeElement.id") == "study-title"
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.locator(SHEET).is_visible()
    assert page.context.cookies() == []
    agree(page)
    titles = set()
    for part in (0, 1):
        playing(page)
        titles.add(title(page))
        next_video(page, swipe)
        titles.add(title(page))
        swipe(page)
        page.locator(SHEET).wait_for()
        assert heading(page) == f"Part {part + 1} of 2 is over"
        page.get_by_role("button", name="Continue").tap()  # is not accepted without an answer
        assert page.locator("#study :invalid").count() > 0
        page.get_by_text("a bit").tap()
        page.get_by_role("button", name="Continue").tap()
        if part == 0:
            videos_come(page)
    until(lambda: heading(page) == "The last questions")
    page.get_by_label("What did you notice?").fill("<i>shapes</i>")
    page.get_by_role("button", name="Continue").tap()
    until(lambda: heading(page) == STUDY.title)
    assert "Thank you" in page.locator(f"{SHEET} .text").inner_text()
    assert page.locator(f"{SHEET} button").is_hidden()
    assert len(titles) == 4
    page.reload()
    page.locator(SHEET).wait_for()
    assert "Thank you" in page.locator(f"{SHEET} .text").inner_text()
    order = order_of(page.number, ["id", "other-id"], 0)
    answers = [one for one in microlens.study_answers(live.events_url, "colours") if one.number == page.number]
    assert [(one.model, one.question, one.answer) for one in answers] == [
        (order[0], "liked", "a bit"),
        (order[1], "liked", "a bit"),
        ("", "remarks", "<i>shapes</i>"),
    ]
    shown = [event for event in live.events(page) if event["kind"] == "impression"]
    assert len(shown) == 4


def test_a_reload_goes_on_by_keyboard_alone(live: LiveFeed, invited: Open) -> None:
    page = invited(DESK)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    videos_come(page)
    first = title(page)
    live.stored(page, "impression")
    page.reload()
    page.locator(CURRENT).wait_for()
    assert title(page) != first
    page.keyboard.press("ArrowDown")
    page.locator(SHEET).wait_for()
    assert heading(page) == "Part 1 of 2 is over"
    page.reload()
    page.locator(SHEET).wait_for()
    assert heading(page) == "Part 1 of 2 is over"
    for key in ("Tab", "ArrowDown", "Tab", "Enter"):
        page.keyboard.press(key)
    videos_come(page)
    assert live.feed.study is not None
    assert page.locator("#why").is_hidden()


def test_time_that_is_up_ends_a_part(live: LiveFeed, invited: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    assert live.feed.study is not None
    timed = STUDY.model_copy(update={"videos": None, "minutes": 0.1})
    monkeypatch.setattr(live.feed.study, "settings", timed)
    page = invited(DESK)
    agree(page)
    page.locator("article.end").wait_for(state="attached")
    page.keyboard.press("ArrowDown")
    page.locator(SHEET).wait_for()
    assert heading(page) == "Part 1 of 2 is over"


def test_links_that_admit_nobody_say_why(live: LiveFeed, visit: Visit, invited: Open) -> None:
    page = visit.open(visit.browser(PHONE), "", SHEET)
    assert heading(page) == "This feed is a study"
    page = visit.open(visit.browser(PHONE), "?participant=0123456789", SHEET)
    assert heading(page) == "This link is not known"
    operator = visit.open(visit.browser(DESK), "operator", "#study:not([hidden])")
    operator.get_by_text("Close the study").click()
    operator.get_by_text("Open the study again").wait_for()
    page = invited(PHONE)
    assert heading(page) == "This study is closed"
    operator.get_by_text("Open the study again").click()
    operator.get_by_text("Close the study").wait_for()
    page.reload()
    until(lambda: page.locator(SHEET).count() and heading(page) == STUDY.title)


def test_answers_wait_for_a_server_that_is_away(live: LiveFeed, visit: Visit, invited: Open) -> None:
    page = invited(DESK)
    live.stop()
    try:
        page.get_by_role("button", name="I agree and take part").click()
        until(lambda: "try again" in page.locator("#study .problem").inner_text())
    finally:
        live.start()
    agree(page)
    visit.mistakes[:] = [mistake for mistake in visit.mistakes if "ERR_CONNECTION_REFUSED" not in mistake]


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_axe_finds_nothing(invited: Open, size: dict[str, Any]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = invited(size, reduced_motion="reduce")
    found = axe.run(page).response["violations"]
    agree(page)
    next_video(page, lambda page: page.keyboard.press("ArrowDown"))
    page.locator("article.end").wait_for(state="attached")
    found += axe.run(page).response["violations"]
    page.keyboard.press("ArrowDown")
    page.locator(SHEET).wait_for()
    found += axe.run(page).response["violations"]
    assert [(violation["id"], violation["nodes"][0]["html"]) for violation in found] == []
    assert page.evaluate("document.getElementById('study').scrollWidth") <= size["viewport"]["width"]
