"""Routes for people: sessions, the next items, events, comments."""

import asyncio
from typing import Annotated, cast

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response

from microlens.feed.events import Event, EventBatch, Recorded, read_event
from microlens.feed.live import Feed
from microlens.feed.people import new_secret, person_of
from microlens.feed.person import Person, Session
from microlens.feed.server.answers import (
    Comment,
    Comments,
    Features,
    ItemAnswer,
    NextAnswer,
    NextRequest,
    SessionAnswer,
    SessionRequest,
    described,
    exposure_answer,
    upload_offer,
)
from microlens.feed.server.cookies import PERSON_COOKIE, feed_of, set_person
from microlens.feed.server.metrics import Metrics
from microlens.feed.server.problems import RESPONSES
from microlens.feed.server.study import participant_in, secret_of
from microlens.feed.study.study import Study

router = APIRouter(prefix="/api", tags=["people"], responses=RESPONSES)
_COMMENTS = 50


async def known_person(request: Request) -> Person:
    """The person whose cookie came with the request.

    Raises:
        HTTPException: 401, there is none.
    """
    secret = request.cookies.get(PERSON_COOKIE)
    person = None if secret is None else await feed_of(request).people.find(person_of(secret))
    if person is None:
        raise HTTPException(401, "nobody is known by this cookie; begin with POST /api/sessions")
    return person


Known = Annotated[Person, Depends(known_person)]


@router.post("/sessions")
async def begin_session(request: Request, response: Response, wanted: SessionRequest | None = None) -> SessionAnswer:
    """Begin a visit; a person without a cookie gets one. In a study, only participants who have agreed may."""
    feed, wanted = feed_of(request), wanted or SessionRequest()
    if feed.study is not None or wanted.participant is not None:
        person, session = await _begin_part(request, response, wanted)
    else:
        person = await _visitor(request, response)
        session = await feed.people.begin_session(person, adult=wanted.adult)
    offer = upload_offer(feed, allowed=request.app.state.uploads_allowed)
    return SessionAnswer(
        session=session.id,
        person=person.id,
        preload=feed.settings.preload,
        comment_length=feed.settings.limits.comment_length,
        features=Features(why=feed.settings.why and feed.study is None, upload=offer is not None),
        upload=offer,
        ends_in_ms=None if feed.study is None else feed.study.ends_in(person, session.part or 0),
    )


async def _visitor(request: Request, response: Response) -> Person:
    feed, secret = feed_of(request), request.cookies.get(PERSON_COOKIE)
    person = None if secret is None else await feed.people.find(person_of(secret))
    if person is None:
        secret = new_secret()
        person = await feed.people.create(person_of(secret))
        set_person(request, response, secret)
    return person


async def _begin_part(request: Request, response: Response, wanted: SessionRequest) -> tuple[Person, Session]:
    feed, secret = feed_of(request), secret_of(request, wanted.participant)
    if feed.study is None:
        raise HTTPException(403, "the study of this invitation does not run here now")
    participant, person = await participant_in(feed, feed.study, secret)
    if wanted.participant is not None:
        set_person(request, response, wanted.participant)
    part, arm = participant.done, participant.order[participant.done]
    return person, await feed.people.begin_session(person, adult=wanted.adult, part=part, arm=arm)


@router.post("/next")
async def next_items(request: Request, wanted: NextRequest, person: Known) -> NextAnswer:
    """Choose the next items of a visit; fewer, and ``ended``, at the end of a part of a study."""
    feed = feed_of(request)
    _check_session(person, wanted.session)
    opened = None if wanted.item is None or feed.study is not None else shown_number(feed, wanted.item)
    if feed.study is not None:
        await _check_part(request, feed.study, person, wanted.session)
    found = await feed.next_items(person, wanted.session, wanted.count, opened)
    _metrics(request).exposures([exposure.row for exposure in found.exposures])
    why = wanted.why and feed.settings.why and feed.study is None
    answers = [exposure_answer(feed, person, exposure, why=why) for exposure in found.exposures]
    ended = feed.study is not None and feed.study.left(person, person.sessions[wanted.session]) <= 0
    return NextAnswer(exposures=answers, used_up=found.used_up, ended=ended)


async def _check_part(request: Request, study: Study, person: Person, session: str) -> None:
    """Check that a participant watches in the last session that was begun, which is one of the present part.

    Raises:
        HTTPException: 403, something else comes next; 404, another session was begun since.
    """
    participant, _ = await participant_in(feed_of(request), study, request.cookies.get(PERSON_COOKIE))
    if session != next(reversed(person.sessions)) or person.sessions[session].part != participant.done:
        raise HTTPException(404, "the study goes on in another window; begin a session with POST /api/sessions")


@router.post(
    "/events",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                kind: {
                    "schema": {
                        "type": "object",
                        "required": ["session", "events"],
                        "properties": {
                            "session": {"type": "string"},
                            "events": {"type": "array", "items": Event.model_json_schema()},
                        },
                    }
                }
                for kind in ("application/json", "text/plain")
            },
        }
    },
)
async def record_events(request: Request, person: Known) -> Recorded:
    """Store events durably; answered after the commit. Also accepts text/plain, as ``sendBeacon`` sends it."""
    batch = EventBatch.model_validate_json(await request.body())
    _check_session(person, batch.session)
    recorded, rows = await feed_of(request).record(person, [read_event(raw) for raw in batch.events])
    _metrics(request).events(rows, len(recorded.refused))
    return recorded


@router.delete("/people/me", status_code=204)
async def forget_me(request: Request, response: Response, person: Known) -> None:
    """Delete everything that is known of the person who asks."""
    await feed_of(request).forget(person.id)
    response.delete_cookie(PERSON_COOKIE, httponly=True, samesite="strict")


@router.get("/items/{item:path}/comments")
async def comments(
    request: Request, item: str, person: Known, before: Annotated[int | None, Query(ge=1, lt=2**63)] = None
) -> Comments:
    """The comments on an item, newest first."""
    feed = feed_of(request)
    shown_number(feed, item)
    rows = await asyncio.to_thread(feed.store.comments, item, before, _COMMENTS)
    found = [
        Comment(
            number=row["number"], by=f"viewer {row['person'][:6]}", mine=row["person"] == person.id,
            text=row["text"], at=row["at"],
        )
        for row in rows
    ]  # fmt: skip
    return Comments(comments=found, before=rows[-1]["number"] if len(rows) == _COMMENTS else None)


@router.get("/items/{item:path}")
async def item(request: Request, item: str, person: Known) -> ItemAnswer:
    """An item."""
    feed = feed_of(request)
    return ItemAnswer(**described(feed, person, shown_number(feed, item)))


def _check_session(person: Person, session: str) -> None:
    if session not in person.sessions:
        raise HTTPException(404, "there is no such session of this person; begin one with POST /api/sessions")


def shown_number(feed: Feed, item: str) -> int:
    """The number of an item that may be shown.

    Raises:
        HTTPException: 404, there is none.
    """
    number = feed.catalogue.number(item)
    if number is None or not feed.catalogue.active[number]:
        raise HTTPException(404, "there is no such item")
    return number


def _metrics(request: Request) -> Metrics:
    return cast(Metrics, request.app.state.metrics)
