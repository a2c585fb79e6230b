"""Routes for people: sessions, the next items, events, comments."""

import asyncio
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field

from microlens.feed.catalogue import Item
from microlens.feed.chooser import Exposure
from microlens.feed.events import Event, EventBatch, Recorded, read_event
from microlens.feed.live import MOST_AT_ONCE, Feed
from microlens.feed.people import new_secret, person_of
from microlens.feed.person import Feedback, Person
from microlens.feed.server.guard import PERSON_COOKIE
from microlens.feed.server.metrics import Metrics
from microlens.feed.server.problems import RESPONSES

router = APIRouter(prefix="/api", tags=["people"], responses=RESPONSES)
_A_YEAR = 365 * 86_400
_COMMENTS = 50
_NEAREST = 3
_NOT_SHOWN = Feedback()


class SessionRequest(BaseModel):
    """A visit begins."""

    adult: bool = False


class Features(BaseModel):
    """What the page may offer."""

    upload: bool
    why: bool


class SessionAnswer(BaseModel):
    """A visit: its id, the person, and how the page should play."""

    session: str
    person: str
    muted_start: bool = True
    preload: int
    features: Features


class NextRequest(BaseModel):
    """Ask for the next items; ``item`` is one that was opened by its address and comes first."""

    session: Annotated[str, Field(max_length=64)]
    count: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = 1
    item: Annotated[str, Field(max_length=1000)] | None = None
    why: bool = False


class My(BaseModel):
    """What the person did with an item before."""

    liked: bool
    favourite: bool


class Nearest(BaseModel):
    """An item of the history, and the cosine similarity of its vector."""

    item: str
    title: str
    similarity: float


class Why(BaseModel):
    """Why an item was chosen; ``rank`` is among ``of`` items, ``cold`` says that nobody had it in training."""

    reason: str
    score: float | None
    rank: int | None
    of: int
    cold: bool
    explored: bool
    propensity: float
    nearest: list[Nearest]


class ItemAnswer(BaseModel):
    """An item as the page shows it."""

    item: str
    title: str
    title_original: str | None = None
    tag: str
    likes: int
    views: int
    comments: int
    my: My
    video: str | None
    playable: bool
    cover: str | None
    width: int | None
    height: int | None
    duration_ms: int | None


class ExposureAnswer(ItemAnswer):
    """An item that is shown."""

    request_id: str
    position: int
    model: str
    why: Why | None = None


class NextAnswer(BaseModel):
    """The next items; ``used_up`` says that everything has been shown, so that they are shown again."""

    exposures: list[ExposureAnswer]
    used_up: bool


class Comment(BaseModel):
    """A comment; ``number`` orders comments, ``by`` tells apart who wrote them."""

    number: int
    by: str
    mine: bool
    text: str
    at: int


class Comments(BaseModel):
    """Comments, newest first; ``before`` asks for the older ones."""

    comments: list[Comment]
    before: int | None


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
    uploads = feed.settings.uploads and any(model.reads_videos for model in feed.models.serving.values())
    return SessionAnswer(
        session=session,
        person=person.id,
        preload=feed.settings.preload,
        features=Features(upload=uploads, why=feed.settings.why),
    )


@router.post("/next")
async def next_items(request: Request, wanted: NextRequest, person: Known) -> NextAnswer:
    """Choose the next items of a visit."""
    feed = feed_of(request)
    _check_session(person, wanted.session)
    opened = None if wanted.item is None else shown_number(feed, wanted.item)
    found = await feed.next_items(person, wanted.session, wanted.count, opened)
    _metrics(request).exposures(exposure.row for exposure in found.exposures)
    why = wanted.why and feed.settings.why
    answers = [_exposure(feed, person, exposure, why=why) for exposure in found.exposures]
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
    return ItemAnswer(**_described(feed, person, shown_number(feed, item)))


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


def _described(feed: Feed, person: Person, number: int) -> dict[str, Any]:
    item, counts = feed.catalogue.item(number), feed.counts
    mine = person.feedback.get(number, _NOT_SHOWN)
    return {
        "item": item.id,
        "title": item.title,
        "tag": item.tag,
        "likes": item.likes + int(counts.likes[number]),
        "views": item.views + int(counts.views[number]),
        "comments": int(counts.comments[number]),
        "my": My(liked=mine.liked, favourite=mine.favourite),
        "video": _address("media", item, item.video),
        "playable": item.playable,
        "cover": _address("covers", item, item.cover),
        "width": item.width,
        "height": item.height,
        "duration_ms": item.duration_ms,
    }


def _address(kind: str, item: Item, path: Path | None) -> str | None:
    return None if path is None else f"/{kind}/{quote(item.id, safe='')}"


def _exposure(feed: Feed, person: Person, exposure: Exposure, *, why: bool) -> ExposureAnswer:
    row = exposure.row
    return ExposureAnswer(
        **_described(feed, person, exposure.number),
        request_id=row["request_id"],
        position=row["position"],
        model=row["model"],
        why=_why(feed, exposure) if why else None,
    )


def _why(feed: Feed, exposure: Exposure) -> Why:
    row, model = exposure.row, exposure.model
    nearest = model.nearest(exposure.number, exposure.history, _NEAREST)
    return Why(
        reason=row["reason"],
        score=row["score"],
        rank=row["rank"],
        of=int((model.rows > 0).sum()) - len(exposure.history),
        cold=not model.warm[exposure.number],
        explored=row["explored"],
        propensity=row["propensity"],
        nearest=[
            Nearest(item=feed.catalogue.id(number), title=feed.catalogue.item(number).title, similarity=cosine)
            for number, cosine in nearest
        ],
    )
