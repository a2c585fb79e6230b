"""The page of the operator in a real browser."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.feed.browser.conftest import CURRENT, DESK, PHONE, LiveFeed, Visit, until

MODEL, ITEM = "#models li", "#items li"


@pytest.fixture
def operator(visit: Visit) -> Any:
    return visit.open(visit.browser(DESK), "operator", MODEL)


def figure(page: Any, name: str) -> str:
    text: str = page.locator("#now dl div").filter(has_text=name).locator("dd").inner_text()
    return text


def search(page: Any, text: str) -> Any:
    """The row of the only item with a text in it."""
    page.get_by_label("Id, title or tag").fill(text)
    until(lambda: page.locator(ITEM).count() == 1)
    return page.locator(ITEM)


def test_a_person_who_comes_is_seen(live: LiveFeed, visit: Visit, operator: Any) -> None:
    page = visit(PHONE)
    page.locator(f"{CURRENT} [data-action=like]").tap()
    live.stored(page, "impression", "like")
    person = live.events(page)[0]["person"]
    row = operator.locator("#sessions tbody tr").filter(has_text=person[:6])
    until(lambda: row.count() == 1 and row.locator("td").nth(0).inner_text().startswith("id@"))
    until(lambda: int(row.locator("td").nth(2).inner_text()) >= 2)
    until(lambda: int(figure(operator, "Events a minute")) >= 2)
    assert figure(operator, "Next video, median").endswith(" ms")
    assert int(operator.locator(f"{MODEL} .exposures").inner_text()) >= 3
    assert operator.locator("#times").get_by_text("/api/next").count() == 1


def test_an_item_is_taken_down_within_a_second_pinned_and_restored(live: LiveFeed, operator: Any) -> None:
    title = live.feed.catalogue.item(7).title
    row = search(operator, title)
    row.get_by_text("Take down").click()
    pressed = time.monotonic()
    until(lambda: not live.feed.catalogue.active[7])
    assert time.monotonic() - pressed < 1
    row.get_by_text("Restore").wait_for()
    assert operator.locator("#state").inner_text() == "Item 7 is taken down."
    assert operator.evaluate("document.activeElement.textContent") == "Restore"
    operator.get_by_label("Show").select_option("ruled")
    assert search(operator, "").locator("h3").inner_text() == title
    operator.keyboard.press("Tab")
    row.get_by_text("Restore").focus()
    operator.keyboard.press("Enter")
    until(lambda: live.feed.catalogue.active[7])
    operator.get_by_label("Show").select_option("all")
    row = search(operator, title)
    row.get_by_label("Position").fill("3")
    operator.keyboard.press("Enter")
    until(lambda: live.feed.catalogue.pins == [(3, 7)])
    row.get_by_text("Unpin").click()
    until(lambda: live.feed.catalogue.pins == [])


def test_a_model_is_replaced_and_comes_back(world: Path, live: LiveFeed, operator: Any) -> None:
    row = operator.locator(MODEL)
    first = row.locator("h3").inner_text()
    assert row.locator(".run").inner_text() == str(world / "id")
    operator.get_by_label("Run folder on the server").fill(str(world / "other-id"))
    operator.get_by_text("Serve this run").click()
    until(lambda: row.locator("h3").inner_text().startswith("id: other-id@"))
    assert live.feed.models.serving["id"].name == "other-id"
    row.get_by_text(f"Back to {first}").click()
    until(lambda: row.locator("h3").inner_text() == first)
    assert live.feed.models.serving["id"].id == first


def test_what_cannot_be_done_is_said(visit: Visit, operator: Any) -> None:
    operator.get_by_label("Run folder on the server").fill("/no/such/<b>run</b>")
    operator.get_by_text("Serve this run").click()
    until(lambda: "/no/such/<b>run</b>" in operator.locator("#state.wrong").inner_text())
    assert operator.locator("#state *").count() == 0
    assert all("422" in mistake for mistake in visit.mistakes)
    visit.mistakes.clear()


def test_texts_of_people_are_no_markup(live: LiveFeed, visit: Visit, operator: Any) -> None:
    page = visit(DESK)
    exposure = page.evaluate("""async () => {
        const post = async (path, body) => (await fetch(path, { method: "POST", body: JSON.stringify(body),
            headers: { "Content-Type": "application/json" } })).json();
        const { session } = await post("/api/sessions", {});
        const [{ request_id, position }] = (await post("/api/next", { session })).exposures;
        const event = { id: "0".repeat(32), kind: "error", request_id, position, at: Date.now() };
        return post("/api/events", { session, events: [{ ...event, reason: "<img src=x> & more" }] });
    }""")
    assert exposure["stored"] == 1
    until(lambda: "<img src=x> & more" in operator.locator("#errors").inner_text())
    assert operator.locator("#errors li *").count() == 0


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(visit: Visit, size: dict[str, Any]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    visit(PHONE)
    page = visit.open(visit.browser(size), "operator", "#sessions tbody tr")
    page.locator(ITEM).first.wait_for()
    found = axe.run(page).response["violations"]
    assert [(violation["id"], violation["nodes"][0]["html"]) for violation in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") == size["viewport"]["width"]
