"""Studies: invitations, consent, counterbalanced order, limits of parts, questions, and the end."""

import csv
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

import microlens
from microlens.errors import InputError
from microlens.feed.database import reading
from microlens.feed.people import now_ms, person_of
from microlens.feed.schema import EVENTS, EXPOSURES, PARTICIPANTS, PEOPLE, SESSIONS
from microlens.feed.study.orders import balanced_orders, order_of
from microlens.feed.study.participants import invite
from microlens.feed.study.settings import StudySettings
from tests.data.test_prepare import run_command
from tests.feed.conftest import OpenFeed, Visitor, event_of

Serve = Callable[..., TestClient]
LIKED = {"name": "liked", "text": "Did you like it?", "choices": ["no", "yes"], "after": "part"}
REMARKS = {"name": "remarks", "text": "What did you notice?", "required": False, "length": 20}
STUDY: dict[str, Any] = {
    "name": "colours",
    "title": "Colours",
    "consent": "We record what you watch.",
    "videos": 3,
    "questions": [LIKED, REMARKS],
}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study/events.sqlite"


@pytest.fixture
def tokens(url: str) -> list[str]:
    return [invitation.token for invitation in invite(url, "colours", 4)]


@pytest.fixture
def client(open_world: OpenFeed, serve: Serve, url: str, tokens: list[str]) -> TestClient:
    return serve(open_world("id", "other-id", events=url, study=StudySettings.model_validate(STUDY)))


class Participant:
    """A participant with a browser."""

    def __init__(self, client: TestClient, token: str | None) -> None:
        self.client, self.token = client, token
        client.cookies.clear()

    def ask(self, path: str = "", **content: Any) -> dict[str, Any]:
        answer = self.client.post(f"/api/study{path}", json={"participant": self.token, **content})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    @property
    def stage(self) -> str:
        return str(self.ask()["stage"])

    def begin(self) -> Visitor:
        self.ask("/consent")
        return Visitor(self.client, participant=self.token)

    def watch(self, visitor: Visitor, count: int = 2, *, like: str = "none") -> list[dict[str, Any]]:
        """Watch until the part ends, and like what one model chooses; returns what was shown."""
        shown: list[dict[str, Any]] = []
        while True:
            answer = visitor.client.post("/api/next", json={"session": visitor.session, "count": count}).json()
            shown += answer["exposures"]
            for exposure in answer["exposures"]:
                kinds = ["impression", "favourite", *(["like"] if exposure["model"].startswith(like) else [])]
                visitor.send(*(event_of(exposure, kind) for kind in kinds))
            if answer["ended"]:
                return shown

    def take_part(self) -> list[dict[str, Any]]:
        """Take part to the end; returns what was shown."""
        shown = []
        for part in (0, 1):
            shown += self.watch(self.begin())
            self.ask("/answers", part=part, answers={"liked": "yes"})
        self.ask("/answers", part=2, answers={"remarks": "=1+1"})
        return shown


@given(st.integers(1, 8))
def test_every_thing_has_every_place_and_every_predecessor_equally_often(count: int) -> None:
    orders = balanced_orders(count)
    places = Counter((place, thing) for order in orders for place, thing in enumerate(order))
    assert set(places.values()) == {len(orders) // count}
    assert len(places) == count**2
    pairs = Counter(pair for order in orders for pair in pairwise(order))
    assert len(pairs) == count * (count - 1)
    assert len(set(pairs.values())) <= 1


@given(st.integers(1, 6), st.integers(0, 2**63 - 1))
def test_every_block_of_participants_has_every_order_once(count: int, seed: int) -> None:
    arms = [f"model {number}" for number in range(count)]
    size = len(balanced_orders(count))
    orders = [order_of(number, arms, seed) for number in range(1, 3 * size + 1)]
    assert orders == [order_of(number, arms[::-1], seed) for number in range(1, 3 * size + 1)]
    for start in (0, size, 2 * size):
        assert Counter(map(tuple, orders[start : start + size])) == Counter(
            tuple(arms[index] for index in order) for order in balanced_orders(count)
        )


def test_participants_see_the_models_in_balanced_order_and_as_many_videos_as_they_should(
    client: TestClient, tokens: list[str]
) -> None:
    orders = []
    for token in tokens:
        participant = Participant(client, token)
        shown = participant.take_part()
        assert len({exposure["item"] for exposure in shown}) == 6
        orders.append(tuple(exposure["model"].partition("@")[0] for exposure in shown[::3]))
        assert [exposure["model"].partition("@")[0] for exposure in shown] == [
            arm for arm in orders[-1] for _ in range(3)
        ]
        assert participant.stage == "finished"
    assert Counter(orders) == {("id", "other-id"): 2, ("other-id", "id"): 2}
    assert orders == [tuple(order_of(number, ["id", "other-id"], 0)) for number in (1, 2, 3, 4)]


def test_nothing_is_recorded_before_the_consent(client: TestClient, url: str, tokens: list[str]) -> None:
    participant = Participant(client, tokens[0])
    client.get("/", params={"participant": tokens[0]})
    step = participant.ask()
    assert (step["stage"], step["title"], step["text"]) == ("consent", "Colours", "We record what you watch.")
    assert client.post("/api/sessions", json={"participant": tokens[0]}).status_code == 403
    assert not client.cookies
    client.app.state.feed.store.flush()  # type: ignore[attr-defined]
    with reading(url) as read:
        for table in (PEOPLE, SESSIONS, EXPOSURES, EVENTS):
            assert read(select(table)) == []
        assert {row["consented"] for row in read(select(PARTICIPANTS))} == {None}
    participant.begin()
    with reading(url) as read:
        assert [row["person"] for row in read(select(PEOPLE))] == [person_of(tokens[0])]
    assert tokens[0].encode() not in Path(url.removeprefix("sqlite:///")).read_bytes()


def test_a_reload_goes_on_where_the_participant_was(client: TestClient, tokens: list[str]) -> None:
    participant = Participant(client, tokens[0])
    visitor = participant.begin()
    first, second = visitor.next(2)
    visitor.send(event_of(first, "impression"))
    again = participant.begin()
    assert again.person == visitor.person
    assert client.post("/api/next", json={"session": visitor.session}).status_code == 404  # the other window
    shown = participant.watch(again)
    assert len(shown) == 2  # the second one had been handed out but not seen
    assert not {first["item"], second["item"]} & {exposure["item"] for exposure in shown}
    assert participant.stage == "questions"
    client.cookies.clear()  # in another browser
    assert participant.stage == "questions"
    assert client.post("/api/sessions", json={"participant": tokens[0]}).status_code == 403


def test_a_broken_video_is_replaced(client: TestClient, tokens: list[str]) -> None:
    participant = Participant(client, tokens[0])
    visitor = participant.begin()
    broken, ahead, _ = visitor.next(5)
    visitor.send(event_of(broken, "impression"), event_of(broken, "error"), event_of(ahead, "error"))
    assert len(participant.watch(visitor)) == 2
    assert participant.stage == "videos"  # the third of the first request was not seen


def test_the_state_survives_a_restart(open_world: OpenFeed, serve: Serve, url: str, tokens: list[str]) -> None:
    settings = StudySettings.model_validate(STUDY)
    client = serve(open_world("id", "other-id", events=url, study=settings))
    participant = Participant(client, tokens[1])
    shown = participant.watch(participant.begin())
    participant.ask("/answers", part=0, answers={"liked": "no"})
    visitor = participant.begin()
    shown += visitor.next()
    visitor.send(event_of(shown[-1], "impression"))
    client.__exit__(None, None, None)
    participant = Participant(serve(open_world("id", "other-id", events=url, study=settings)), tokens[1])
    assert participant.ask()["part"] == 1
    rest = participant.watch(participant.begin())
    assert len(rest) == 2
    assert {exposure["model"] for exposure in rest} == {shown[-1]["model"]} != {shown[0]["model"]}
    other = serve(open_world("id", study=settings))
    assert Participant(other, tokens[1]).stage == "unknown"


def test_other_models_than_those_of_a_participant_are_refused(
    open_world: OpenFeed, serve: Serve, url: str, tokens: list[str]
) -> None:
    settings = StudySettings.model_validate(STUDY)
    client = serve(open_world("id", "other-id", events=url, study=settings))
    Participant(client, tokens[0]).begin()
    client.__exit__(None, None, None)
    client = serve(open_world("id", "popularity", events=url, study=settings))
    answer = client.post("/api/sessions", json={"participant": tokens[0]})
    assert (answer.status_code, "not served now" in answer.json()["detail"]) == (409, True)


def test_minutes_are_kept(open_world: OpenFeed, serve: Serve, url: str, tokens: list[str]) -> None:
    settings = StudySettings.model_validate({**STUDY, "videos": None, "minutes": 2.5})
    feed = open_world("id", "other-id", events=url, study=settings)
    passed = 0
    feed.study._clock = lambda: now_ms() + passed  # type: ignore[union-attr]
    client = serve(feed)
    participant = Participant(client, tokens[0])
    visitor = participant.begin()
    passed = 10_000_000  # before the first video time does not run
    assert len(visitor.next(4)) == 4
    began = client.app.state.feed.people._known[visitor.person].sessions[visitor.session].began  # type: ignore[attr-defined]
    feed.study._clock = lambda: began + passed  # type: ignore[union-attr]
    passed = 149_999
    answer = client.post("/api/next", json={"session": visitor.session}).json()
    assert (len(answer["exposures"]), answer["ended"], participant.stage) == (1, False, "videos")
    assert client.post("/api/sessions", json={}).json()["ends_in_ms"] == 1
    passed = 150_000
    assert client.post("/api/next", json={"session": visitor.session}).status_code == 403
    assert participant.stage == "questions"


def test_answers_are_checked_and_kept_once(client: TestClient, url: str, tokens: list[str]) -> None:
    participant = Participant(client, tokens[0])

    def refused(part: int, **answers: str) -> str:
        answer = client.post("/api/study/answers", json={"part": part, "answers": answers})
        assert answer.status_code == 422
        return str(answer.json()["detail"])

    visitor = participant.begin()
    assert participant.ask("/answers", part=0, answers={"liked": "yes"})["stage"] == "videos"  # before its end
    participant.watch(visitor)
    step = participant.ask()
    assert [(one["name"], one["choices"], one["required"]) for one in step["questions"]] == [
        ("liked", ["no", "yes"], True)
    ]
    assert "liked has to be answered" in refused(0)
    assert "none of its choices" in refused(0, liked="perhaps")
    assert "no question other" in refused(0, liked="yes", other="x")
    assert participant.ask("/answers", part=0, answers={"liked": "yes"})["part"] == 1
    assert participant.ask("/answers", part=0, answers={"liked": "no"})["stage"] == "videos"  # a second time
    participant.watch(participant.begin())
    participant.ask("/answers", part=1, answers={"liked": "no"})
    assert "more than 20 characters" in refused(2, remarks="x" * 21)
    step = participant.ask("/answers", part=2, answers={"remarks": " "})
    assert (step["stage"], step["text"]) == ("finished", "Thank you for taking part. You may close this page.")
    rows = microlens.study_answers(url, "colours")
    assert [(row.number, row.part, row.question, row.answer) for row in rows] == [
        (1, 1, "liked", "yes"),
        (1, 2, "liked", "no"),
    ]
    assert [row.model for row in rows] == order_of(1, ["id", "other-id"], 0)


def test_what_is_sent_twice_at_once_counts_once(client: TestClient, url: str, tokens: list[str]) -> None:
    feed = client.app.state.feed  # type: ignore[attr-defined]
    participants, person = feed.study.participants, person_of(tokens[0])
    for moment, order in ((1, ["id", "other-id"]), (2, ["other-id", "id"])):
        participants.consent(person, order, moment)
    for text in ("yes", "no"):
        participants.finish_part(person, 0, {"liked": text}, finishes=False, now=3)
    found = participants.find(person)
    assert (found.order, found.consented, found.done) == (("id", "other-id"), 1, 1)
    assert [row.answer for row in microlens.study_answers(url, "colours")] == ["yes"]


def test_nothing_is_uploaded_in_a_study(client: TestClient, tokens: list[str]) -> None:
    Participant(client, tokens[0]).begin()
    assert client.post("/api/sessions", json={"participant": tokens[0]}).json()["upload"] is None
    file = {"file": ("video.mp4", b"0000", "video/mp4")}
    assert client.post("/api/items", data={"title": "A video"}, files=file).status_code in (403, 404, 409)


def test_links_that_admit_nobody_say_why(client: TestClient, tokens: list[str]) -> None:
    assert Participant(client, None).stage == "invitation"
    assert Participant(client, "x" * 43).stage == "unknown"
    done = Participant(client, tokens[0])
    done.take_part()
    begun = Participant(client, tokens[1])
    begun.begin()
    assert client.post("/api/admin/study", json={"closed": True}).json() == {
        "name": "colours", "title": "Colours", "closed": True, "invited": 4, "consented": 2, "finished": 1,
    }  # fmt: skip
    late = Participant(client, tokens[2])
    assert late.stage == late.ask("/consent")["stage"] == "closed"
    assert Participant(client, tokens[0]).stage == "finished"
    begun.client.cookies.clear()
    assert begun.stage == "videos"
    assert begun.take_part()
    for participant in (done, late, Participant(client, "x" * 43), Participant(client, None)):
        answer = client.post("/api/sessions", json={"participant": participant.token})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    client.cookies.clear()
    assert "by invitation" in client.post("/api/sessions").json()["detail"]
    client.post("/api/admin/study", json={"closed": False})
    assert late.stage == "consent"


def test_no_participant_can_use_the_session_of_another(client: TestClient, tokens: list[str]) -> None:
    theirs = Participant(client, tokens[0]).begin()
    Participant(client, tokens[1]).begin()
    for path, content in (("next", {}), ("events", {"events": []})):
        answer = client.post(f"/api/{path}", json={"session": theirs.session, **content})
        assert answer.status_code == 404


def test_a_person_who_was_here_before_is_no_participant(
    open_world: OpenFeed, serve: Serve, url: str, tokens: list[str]
) -> None:
    before = serve(open_world("id", events=url))
    visitor = Visitor(before)
    refused = before.post("/api/sessions", json={"participant": tokens[0]})
    assert refused.status_code == 403  # nobody watches without having agreed
    assert before.post("/api/study", json={"participant": tokens[0]}).json()["stage"] == "none"
    cookies = dict(before.cookies)
    before.__exit__(None, None, None)
    client = serve(open_world("id", events=url, study=StudySettings.model_validate(STUDY)))
    client.cookies.update(cookies)
    assert client.post("/api/study", json={}).json()["stage"] == "unknown"
    assert client.post("/api/next", json={"session": visitor.session}).status_code == 403


def test_deleting_a_person_deletes_the_answers_and_the_invitation(
    client: TestClient, url: str, tokens: list[str]
) -> None:
    participant = Participant(client, tokens[0])
    participant.take_part()
    assert len(microlens.study_answers(url, "colours")) == 3
    assert client.delete("/api/people/me").status_code == 204
    assert microlens.study_answers(url, "colours") == []
    assert participant.stage == "unknown"
    with reading(url) as read:
        assert read(select(EVENTS)) == read(select(EXPOSURES)) == []


def test_interleaved_models_have_one_part(open_world: OpenFeed, serve: Serve, url: str, tokens: list[str]) -> None:
    settings = StudySettings.model_validate({**STUDY, "videos": 4, "questions": []})
    client = serve(open_world("id", "other-id", events=url, study=settings, interleave=True))
    participant = Participant(client, tokens[0])
    assert len(participant.watch(participant.begin())) == 4
    step = participant.ask()
    assert (step["stage"], step["part"], step["parts"], step["questions"]) == ("questions", 0, 1, [])
    assert participant.ask("/answers", part=0)["stage"] == "finished"


def test_invitations_follow_each_other_and_cannot_be_guessed(url: str) -> None:
    first, second = invite(url, "colours", 3), invite(url, "colours", 2)
    assert [invitation.number for invitation in (*first, *second)] == [1, 2, 3, 4, 5]
    assert [invitation.number for invitation in invite(url, "other", 1)] == [1]
    assert len({invitation.token for invitation in (*first, *second)}) == 5
    assert all(len(invitation.token) >= 43 for invitation in first)


def test_a_study_on_postgresql_invites_and_asks(open_world: OpenFeed, serve: Serve, postgres: Any) -> None:
    database = postgres.new_database()
    tokens = [invitation.token for invitation in invite(database, "colours", 2)]
    client = serve(open_world("id", "other-id", events=database, study=StudySettings.model_validate(STUDY)))
    assert len(Participant(client, tokens[0]).take_part()) == 6
    assert len(microlens.study_answers(database, "colours")) == 3
    assert client.get("/api/admin/overview").json()["study"]["finished"] == 1


def test_the_models_of_a_study_are_compared_within_participants(
    client: TestClient, url: str, tokens: list[str]
) -> None:
    for token in tokens:
        participant = Participant(client, token)
        for part in (0, 1):
            participant.watch(participant.begin(), 1, like="other-id")
            participant.ask("/answers", part=part, answers={"liked": "yes"})
    client.app.state.feed.store.flush()  # type: ignore[attr-defined]
    report = microlens.report_feed(url, "colours")
    assert [(arm.name, arm.people) for arm in report.arms] == [("id", 4), ("other-id", 4)]
    (liked,) = (found for found in report.differences if found.metric == "liked")
    assert (liked.mean, liked.paired) == (-1.0, True)
    with pytest.raises(InputError, match="holds nothing that a model has chosen"):
        microlens.report_feed(url, "another")


def test_commands_write_links_and_answers(open_world: OpenFeed, serve: Serve, url: str, tmp_path: Path) -> None:
    study, links, answers = tmp_path / "study.toml", tmp_path / "links.csv", tmp_path / "answers.csv"
    study.write_text(toml(STUDY), encoding="utf-8")
    address = "https://feed.example/?token=0123456789abcdef"
    options = ("--count", "2", "--url", address, "--events", url)
    status, out, _ = run_command("feed", "participants", study, links, *options)
    assert (status, "Next: microlens feed RUN --study" in " ".join(out.split())) == (0, True)
    rows = list(csv.DictReader(links.read_text(encoding="utf-8").splitlines()))
    assert [row["number"] for row in rows] == ["1", "2"]
    assert all(row["link"].startswith(f"{address}&participant=") for row in rows)
    assert links.stat().st_mode & 0o077 == 0
    before = links.read_bytes()
    status, _, err = run_command("feed", "participants", study, links, *options)
    assert (status, "exists" in err, links.read_bytes()) == (2, True, before)
    client = serve(open_world("id", "other-id", events=url, study=StudySettings.load(study)))
    Participant(client, rows[1]["link"].rpartition("=")[2]).take_part()
    status, out, _ = run_command("feed", "answers", study, answers, "--events", url)
    assert (status, "3 answers of 1 participants" in out) == (0, True)
    found = list(csv.DictReader(answers.read_text(encoding="utf-8").splitlines()))
    assert [(row["number"], row["part"], row["question"], row["answer"]) for row in found] == [
        ("2", "1", "liked", "yes"),
        ("2", "2", "liked", "yes"),
        ("2", "3", "remarks", "'=1+1"),  # a spreadsheet would compute it
    ]
    assert {row["model"] for row in found} == {"id", "other-id", ""}
    status, _, err = run_command("feed", "participants", study, tmp_path / "more.csv", "--url", "feed.example")
    assert (status, "is no address of a feed" in err) == (2, True)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"videos": None}, "a study needs videos, minutes, or both"),
        ({"name": "A study"}, "name: String should match pattern"),
        ({"videso": 3}, "videso: Extra inputs are not permitted"),
        ({"questions": [LIKED, LIKED]}, "two questions have the same name"),
        ({"questions": [{**LIKED, "choices": ["yes"]}]}, "questions.0: choices are at least two different answers"),
    ],
)
def test_settings_of_a_study_are_checked(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(toml({**STUDY, **change}), encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        StudySettings.load(path)


def toml(study: dict[str, Any]) -> str:
    def value(given: Any) -> str:
        return {True: "true", False: "false"}.get(given, repr(given)) if isinstance(given, bool) else repr(given)

    lines = [f"{key} = {value(given)}" for key, given in study.items() if given is not None and key != "questions"]
    for question in study["questions"]:
        lines += ["[[questions]]", *(f"{key} = {value(given)}" for key, given in question.items())]
    return "\n".join(lines)


def test_a_study_with_more_videos_than_there_are_is_refused(open_world: OpenFeed) -> None:
    settings = StudySettings.model_validate({**STUDY, "videos": 11})
    with pytest.raises(InputError, match="shows 22 videos, 11 in each part, but the feed has 20"):
        open_world("id", "other-id", study=settings)
