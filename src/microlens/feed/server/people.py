"""Routes for people: sessions, the next items, events, comments."""

import asyncio
from typing import Annotated, cast

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response

from microlens.feed.events import Event, EventBatch, Recorded, read_event
from microlens.feed.live import Feed
from microlens.feed.people import new_secret, person_of
from microlens.feed.person import Person
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
)
from microlens.feed.server.guard import PERSON_COOKIE
from microlens.feed.server.metrics import Metrics
from microlens.feed.server.problems import RESPONSES

router = APIRouter(prefix="/api", tags=["people"], responses=RESPONSES)
_A_YEAR = 365 * 86_400
_COMMENTS = 50


def feed_of(request: Request) -> Feed:
    """The running feed."""
    return cast(Feed, request.app.state.feed)


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
    """Begin a visit; a person without a cookie gets one."""
    feed, secret = feed_of(request), request.cookies.get(PERSON_COOKIE)
    person = None if secret is None else await feed.people.find(person_of(secret))
    if person is None:
        secret = new_secret()
        person = await feed.people.create(person_of(secret))
        response.set_cookie(
            PERSON_COOKIE, secret, max_age=_A_YEAR, httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
    session = await feed.people.begin_session(person, adult=wanted is not None and wanted.adult)
    return SessionAnswer(
        session=session,
        person=person.id,
        preload=feed.settings.preload,
        comment_length=feed.settings.limits.comment_length,
        features=Features(why=feed.settings.why),
    )


@router.post("/next")
async def next_items(request: Request, wanted: NextRequest, person: Known) -> NextAnswer:
    """Choose the next items of a visit."""
    feed = feed_of(request)
    _check_session(person, wanted.session)
    opened = None if wanted.item is None else shown_number(feed, wanted.item)
    found = await feed.next_items(person, wanted.session, wanted.count, opened)
    _metrics(request).exposures([exposure.row for exposure in found.exposures])
    why = wanted.why and feed.settings.why
    answers = [exposure_answer(feed, person, exposure, why=why) for exposure in found.exposures]
    return NextAnswer(exposures=answers, used_up=found.used_up)


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
