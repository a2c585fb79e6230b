"""Attacks on the server, one by one."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from microlens.errors import InputError
from microlens.feed.people import person_of
from microlens.feed.server import access
from microlens.feed.server.access import Access, RateLimit
from tests.feed.conftest import NO_EXPLORATION, OpenFeed, Visitor, event_of

Serve = Callable[..., Any]
TOKEN, OPERATOR = "people0123456789", "operator01234567"
OPERATOR_REQUESTS = [
    ("POST", "/api/admin/items/1", {"state": "taken-down"}),
    ("GET", "/api/admin/items", None),
    ("POST", "/api/admin/study", {"closed": True}),
    ("POST", "/api/admin/model", {"run": "/tmp"}),
    ("POST", "/api/admin/model/back", {}),
    ("GET", "/api/admin/overview", None),
    ("DELETE", "/api/users/0123", None),
    ("GET", "/metrics", None),
    ("GET", "/operator", None),
]


@pytest.fixture
def visitor(lasting: TestClient) -> Visitor:
    lasting.cookies.clear()
    return Visitor(lasting)


@pytest.fixture(scope="module")
def guarded(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from microlens.feed.server.app import create_app
    from microlens.feed.server.running import open_feed
    from microlens.feed.settings import FeedSettings

    url = f"sqlite:///{tmp_path_factory.mktemp('guarded')}/events.sqlite"
    feed = open_feed([world / "id"], url, FeedSettings.model_validate(NO_EXPLORATION), release=world / "release")
    rules = Access(host="0.0.0.0", token=TOKEN, operator_token=OPERATOR)
    with TestClient(create_app(feed, rules), "http://feed.example", follow_redirects=False) as client:
        yield client


@pytest.fixture
def outside(guarded: TestClient) -> TestClient:
    guarded.cookies.clear()
    return guarded


def get_raw(client: TestClient, path: str, headers: dict[str, str] | None = None) -> Any:
    """Ask for a path exactly as it is written, which clients would otherwise normalize."""
    request = client.build_request("GET", "/", headers=headers)
    request.url = request.url.copy_with(raw_path=path.encode())
    return client.send(request)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "feed.example", "::"])
def test_another_host_needs_a_token(host: str) -> None:
    with pytest.raises(InputError, match="--token"):
        Access(host=host)
    Access(host=host, token=TOKEN)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "short",
        "with spaces 0123456789",
        "\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4",
    ],
)
def test_a_token_that_can_be_guessed_is_refused(token: str) -> None:
    with pytest.raises(InputError, match="at least 16 letters and digits"):
        Access(token=token)


@pytest.mark.parametrize("given", [None, "", "people012345678", TOKEN + "x", TOKEN.upper(), "\u00e4" * 16])
def test_nothing_is_served_without_the_token(outside: TestClient, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": f"Bearer {given}".encode()}
    for method, path in (("GET", "/"), ("POST", "/api/sessions"), ("GET", "/media/1"), ("GET", "/static/feed.js")):
        answer = outside.request(method, path, headers=headers)
        assert answer.status_code == 401, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert "set-cookie" not in answer.headers
    for path in ("/health", "/ready"):
        assert outside.get(path).status_code == 200


def test_the_address_with_the_token_opens_the_feed_and_hides_the_token(outside: TestClient) -> None:
    answer = outside.get("/", params={"token": TOKEN, "item": "7"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/?item=7"
    assert re.search(r"HttpOnly.*SameSite=strict", answer.headers["set-cookie"], re.IGNORECASE)
    assert Visitor(outside).next()


def test_the_address_leads_nowhere_else(outside: TestClient) -> None:
    answer = outside.get("/", params={"token": TOKEN}, headers={"Host": "evil.example"})
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize(("method", "path", "body"), OPERATOR_REQUESTS)
def test_people_are_no_operators(outside: TestClient, method: str, path: str, body: Any) -> None:
    answer = outside.request(method, path, json=body, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 401
    answer = outside.request(method, path, json=body, headers={"Authorization": f"Bearer {OPERATOR}"})
    assert answer.status_code not in (401, 403)
    outside.post("/api/admin/items/1", json={"state": "active"}, headers={"Authorization": f"Bearer {OPERATOR}"})


@pytest.mark.parametrize("path", ["/api//admin/overview", "/api/admin", "//metrics", "/x/../metrics", "/METRICS"])
def test_no_other_spelling_of_a_path_gets_past_the_token(outside: TestClient, path: str) -> None:
    assert get_raw(outside, path, {"Authorization": f"Bearer {TOKEN}"}).status_code in (401, 404, 307)


def test_the_operators_page_opens_with_the_operators_token_only(outside: TestClient) -> None:
    assert outside.get("/operator", params={"token": TOKEN}).status_code == 401
    answer = outside.get("/operator", params={"token": OPERATOR})
    assert (answer.status_code, answer.headers["location"]) == (303, "/operator")
    assert "HttpOnly" in answer.headers["set-cookie"]
    page = outside.get("/operator")
    assert (page.status_code, "<h1>Operator</h1>" in page.text) == (200, True)
    assert outside.get("/api/admin/overview").status_code == 200


def test_without_an_operators_token_nobody_is_operator_where_people_need_one() -> None:
    rules = Access(host="0.0.0.0", token=TOKEN)
    assert not rules.is_operator(TOKEN)
    assert not rules.is_operator(None)
    assert Access().is_operator(None)


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    original = access.hmac.compare_digest
    monkeypatch.setattr(access.hmac, "compare_digest", lambda *both: compared.append(both) or original(*both))
    assert Access(token=TOKEN).admits(TOKEN)
    assert not Access(token=TOKEN).admits("x" * 16)
    assert len(compared) == 2


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:81", "http://127.0.0.1.evil.example"]
)
@pytest.mark.parametrize("path", ["/api/events", "/api/next", "/api/sessions", "/api/admin/model/back"])
def test_another_site_cannot_make_a_browser_do_anything(visitor: Visitor, origin: str, path: str) -> None:
    for headers in ({"Origin": origin}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
        answer = visitor.client.post(path, json={"session": visitor.session, "events": []}, headers=headers)
        assert answer.status_code == 403
    assert visitor.client.delete("/api/people/me", headers={"Origin": origin}).status_code == 403


def test_our_own_pages_may(visitor: Visitor) -> None:
    headers = {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}
    body = {"session": visitor.session, "events": []}
    assert visitor.client.post("/api/events", json=body, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1].evil.example:80"]
)
def test_a_name_that_points_here_is_not_answered(lasting: TestClient, host: str) -> None:
    answer = lasting.get("/health", headers={"Host": host})
    assert answer.status_code == (200 if host.startswith("[::1]") else 421)


def test_the_cookie_of_a_person_cannot_be_read_sent_elsewhere_or_made(lasting: TestClient) -> None:
    lasting.cookies.clear()
    answer = lasting.post("/api/sessions")
    cookie = answer.headers["set-cookie"]
    assert re.search(r"HttpOnly", cookie)
    assert re.search(r"SameSite=strict", cookie, re.IGNORECASE)
    secret, person = lasting.cookies["microlens_person"], answer.json()["person"]
    assert person_of(secret) == person
    assert secret not in answer.text
    for forged in (person, "", "x" * 5000, secret[:-1], "' OR 1=1 --"):
        lasting.cookies.clear()
        headers = {"Cookie": f"microlens_person={forged}"}
        body = {"session": answer.json()["session"]}
        assert lasting.post("/api/next", json=body, headers=headers).status_code == 401


def test_the_cookie_is_sent_only_encrypted_where_the_page_is(lasting: TestClient) -> None:
    lasting.cookies.clear()
    answer = lasting.post("https://127.0.0.1/api/sessions")
    assert "Secure" in answer.headers["set-cookie"]
    lasting.cookies.clear()


def test_nobody_acts_or_reads_as_somebody_else(lasting: TestClient) -> None:
    lasting.cookies.clear()
    victim = Visitor(lasting)
    exposure = victim.next()[0]
    lasting.cookies.clear()
    attacker = Visitor(lasting)
    body = {"session": victim.session, "events": [event_of(exposure, "like")]}
    assert lasting.post("/api/events", json=body).status_code == 404
    assert lasting.post("/api/next", json={"session": victim.session}).status_code == 404
    refused = attacker.send(event_of(exposure, "like"))
    assert (refused["stored"], len(refused["refused"])) == (0, 1)
    assert lasting.app.state.feed.store.events(victim.person) == []


def test_pages_may_load_from_here_only_and_run_no_inline_script(lasting: TestClient) -> None:
    for path in ("/", "/health", "/nowhere", "/media/1", "/static/nothing"):
        headers = lasting.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../settings.py", "/static/%2e%2e/settings.py", "/static/..%2fsettings.py", "/media/../../etc/passwd",
        "/media/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/media//etc/passwd", "/covers/..%5c..%5cetc", "/media/1%00.mp4",
        "/media/-1", "/media/0", "/media/99999999999999999999999", "/media/1.0", "/media/%D9%A1", "/media/+1",
        "/media/01",
    ],
)  # fmt: skip
def test_no_path_leads_to_another_file(lasting: TestClient, path: str) -> None:
    answer = get_raw(lasting, path)
    assert answer.status_code in (404, 422)
    assert b"root:" not in answer.content


def test_a_client_that_asks_too_often_has_to_wait(open_world: OpenFeed, serve: Serve) -> None:
    client = serve(open_world("id", settings={"limits": {"requests_a_minute": 60}}))
    answers = [client.get("/api/items/1") for _ in range(12)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) == 1
    assert client.get("/health").status_code == 200


def test_people_behind_one_address_are_limited_one_by_one(open_world: OpenFeed, serve: Serve) -> None:
    client = serve(open_world("id", settings={"limits": {"requests_a_minute": 60}}))
    first, second = (dict(client.post("/api/sessions").cookies) for _ in range(2) if client.cookies.clear() is None)
    client.cookies.clear()

    def ask(cookies: dict[str, str]) -> int:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
        return int(client.get("/api/items/1", headers=headers).status_code)

    assert [ask(first) for _ in range(11)] == [200] * 10 + [429]
    assert ask(second) == 200
    # Cookies that nobody was given do not get around the limit of the address, of which two requests were used.
    assert [ask({"microlens_person": f"made-up-{number}"}) for number in range(9)] == [401] * 8 + [429]


def test_the_rate_is_that_of_a_bucket_refilled_steadily() -> None:
    rate = RateLimit(120)
    allowed = [rate.wait("a", now=number / 10) == 0 for number in range(600)]  # 10 a second for a minute
    assert sum(allowed) == pytest.approx(12 + 2 * 60, abs=2)
    assert sum(allowed[:13]) == 13
    assert rate.wait("b", now=0.0) == 0
    assert 0 < rate.wait("a", now=59.9) <= 0.5


def test_errors_tell_nothing_of_the_inside(lasting: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr(lasting.app.state.feed.store, "rules", broken)
    answer = lasting.get("/ready")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_a_person_is_deleted_by_asking(visitor: Visitor, lasting: TestClient) -> None:
    visitor.send(*(event_of(exposure, "like") for exposure in visitor.next(3)))
    store = lasting.app.state.feed.store
    assert lasting.delete("/api/people/me").status_code == 204
    assert (store.person(visitor.person), store.events(visitor.person)) == (None, [])
    assert (store.exposures(visitor.person), store.sessions(visitor.person)) == ([], [])
    assert lasting.post("/api/next", json={"session": visitor.session}).status_code == 401
    assert Visitor(lasting).person != visitor.person


def test_an_operator_deletes_a_person(visitor: Visitor, lasting: TestClient) -> None:
    assert lasting.delete(f"/api/users/{visitor.person}").status_code == 204
    assert lasting.delete(f"/api/users/{visitor.person}").status_code == 404
    assert lasting.post("/api/next", json={"session": visitor.session}).status_code == 401
