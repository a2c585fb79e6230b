"""Routes for operators: rules, models, people, and the state of the server."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field

from microlens.errors import InputError
from microlens.feed.database import Row
from microlens.feed.live import Feed
from microlens.feed.people import now_ms
from microlens.feed.server.activity import LIVE_MS, Activity
from microlens.feed.server.cookies import feed_of
from microlens.feed.server.problems import RESPONSES
from microlens.feed.server.study import StudyState, state_of

router = APIRouter(tags=["operator"], responses=RESPONSES)
_MOST_SESSIONS = 50
_MOST_ITEMS = 50


class Rule(BaseModel):
    """What becomes of an item: ``pin`` is the position in a session at which it is shown to everyone, from 1."""

    state: Literal["active", "taken-down"] = "active"
    pin: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class NewModel(BaseModel):
    """A run to serve, by its folder on the server; ``arm`` is the model that it replaces."""

    run: Annotated[str, Field(min_length=1, max_length=4096)]
    arm: str | None = None


class FormerModel(BaseModel):
    """The arm whose former model is served again."""

    arm: str | None = None


class ModelAnswer(BaseModel):
    """The models that are served now, by arm."""

    serving: dict[str, str]


class Milliseconds(BaseModel):
    """Times to answer, of the latest requests."""

    median: float
    p99: float


class ModelState(BaseModel):
    """A model that is served: its run, the items it has chosen since the start, and the one that it has replaced.

    ``uploads_by`` is what of an upload it ranks it by, such as title and video; empty if it cannot rank uploads.
    """

    arm: str
    model: str
    digest: str
    run: str
    exposures: int
    former: str | None
    uploads_by: list[str]


class SessionState(BaseModel):
    """A visit, with the model of its last item, the items handed out and the events stored."""

    session: str
    person: str
    model: str
    items: int
    events: int
    seen: int


class ErrorState(BaseModel):
    """An item that a page could not play."""

    item: str
    reason: str
    at: int


class MetricsResponse(Response):
    """The text format of Prometheus."""

    media_type = "text/plain; version=0.0.4"


class Overview(BaseModel):
    """The state of a server; totals are those of the event store, everything else is of this server.

    ``people_now`` and ``sessions_now`` did something in the last five minutes; ``live`` are the latest of the sessions.
    ``mistakes`` are requests that failed, ``errors`` what pages reported, both the newest first.
    """

    models: list[ModelState]
    interleaved: bool
    people_now: int
    sessions_now: int
    live: list[SessionState]
    events_a_minute: int
    people: int
    sessions: int
    exposures: int
    events: dict[str, int]
    items: int
    uploads: int
    milliseconds: dict[str, Milliseconds]
    mistakes: list[str]
    errors: list[ErrorState]
    study: StudyState | None


class ItemState(BaseModel):
    """An item with its rule; ``hidden`` says that its tag is not shown, ``uploaded`` is when it was, if it was."""

    item: str
    title: str
    tag: str
    state: Literal["active", "taken-down"]
    pin: int | None
    hidden: bool
    uploaded: int | None


class ItemList(BaseModel):
    """Items, the newest first; ``found`` is how many there are, of which the first are listed."""

    items: list[ItemState]
    found: int


@router.get("/api/admin/items")
async def list_items(
    request: Request,
    search: Annotated[str, Query(max_length=200)] = "",
    among: Literal["all", "uploads", "ruled"] = "all",
) -> ItemList:
    """Items whose id, title or tag has a text in it; ``ruled`` are those that are taken down or pinned."""
    return await asyncio.to_thread(_listed, feed_of(request), search, among)


@router.post("/api/admin/items/{item:path}")
async def set_rule(request: Request, item: str, rule: Rule) -> Rule:
    """Pin an item or take it down; effective at once on this server, within a second on others."""
    feed = feed_of(request)
    if feed.catalogue.number(item) is None:
        raise HTTPException(404, "there is no such item")
    await feed.set_rule(item, rule.state, rule.pin)
    return rule


@router.post("/api/admin/model")
async def replace_model(request: Request, wanted: NewModel) -> ModelAnswer:
    """Load a run and serve it instead of the present one; answered when it serves."""
    feed = feed_of(request)
    await asyncio.to_thread(feed.replace_model, Path(wanted.run), wanted.arm)
    return _serving(request)


@router.post("/api/admin/model/back")
async def former_model(request: Request, wanted: FormerModel | None = None) -> ModelAnswer:
    """Serve the former model again."""
    try:
        feed_of(request).back(None if wanted is None else wanted.arm)
    except InputError as error:
        raise HTTPException(409, str(error)) from error
    return _serving(request)


@router.delete("/api/users/{person}", status_code=204)
async def forget(request: Request, person: str) -> None:
    """Delete everything that is known of a person."""
    if not await feed_of(request).forget(person):
        raise HTTPException(404, "there is no such person")


@router.get("/api/admin/overview")
async def overview(request: Request) -> Overview:
    """The state of this server, for the operator's page."""
    feed, metrics, now = feed_of(request), request.app.state.metrics, now_ms()
    activity: Activity = metrics.activity
    totals = await asyncio.to_thread(feed.store.totals)
    live = activity.sessions(now)
    return Overview(
        models=_models(feed, activity),
        interleaved=feed.models.interleave,
        people_now=feed.people.count_since(now - LIVE_MS),
        sessions_now=len(live),
        live=[SessionState(**asdict(session)) for session in live[:_MOST_SESSIONS]],
        events_a_minute=activity.events_a_minute(now),
        items=len(feed.catalogue),
        uploads=len(feed.catalogue) - len(feed.catalogue.dataset_ids),
        milliseconds={route: Milliseconds(median=p50, p99=p99) for route, (p50, p99) in metrics.milliseconds().items()},
        mistakes=list(reversed(metrics.mistakes)),
        errors=[ErrorState(**asdict(error)) for error in activity.errors],
        study=None if feed.study is None else await asyncio.to_thread(state_of, feed.study),
        **totals,
    )


def _models(feed: Feed, activity: Activity) -> list[ModelState]:
    former = feed.models.former
    return [
        ModelState(
            arm=arm,
            model=model.id,
            digest=model.digest,
            run=str(model.folder),
            exposures=activity.exposures[model.id],
            former=former.get(arm),
            uploads_by=model.reads_of_uploads,
        )
        for arm, model in feed.models.serving.items()
    ]


def _listed(feed: Feed, search: str, among: str) -> ItemList:
    catalogue, uploads = feed.catalogue, {row["item"]: row["created"] for row in feed.store.uploads()}
    rules = {row["item"]: row for row in feed.store.rules()}
    ruled = {item for item, rule in rules.items() if rule["state"] != "active" or rule["pin"] is not None}
    found = catalogue.search(search)
    if among != "all":
        wanted = uploads if among == "uploads" else ruled
        found = [number for number in found if catalogue.id(number) in wanted]
    return ItemList(
        items=[_item_state(feed, number, rules, uploads) for number in found[:_MOST_ITEMS]],
        found=len(found),
    )


def _item_state(feed: Feed, number: int, rules: dict[str, Row], uploads: dict[str, int]) -> ItemState:
    item = feed.catalogue.item(number)
    rule = rules.get(item.id, {"state": "active", "pin": None})
    return ItemState(
        item=item.id,
        title=item.title,
        tag=item.tag,
        state=rule["state"],
        pin=rule["pin"],
        hidden=rule["state"] == "active" and not feed.catalogue.active[number],
        uploaded=uploads.get(item.id),
    )


@router.get("/health")
async def health() -> dict[str, str]:
    """The server runs."""
    return {"status": "ok"}


@router.get("/ready")
async def ready(request: Request) -> dict[str, str]:
    """The server can serve: the event store answers."""
    await asyncio.to_thread(feed_of(request).store.rules)
    return {"status": "ready"}


@router.get("/metrics", response_class=MetricsResponse)
async def metrics(request: Request) -> MetricsResponse:
    """Metrics for Prometheus."""
    return MetricsResponse(request.app.state.metrics.text(feed_of(request).people.live))


def _serving(request: Request) -> ModelAnswer:
    return ModelAnswer(serving={arm: model.id for arm, model in feed_of(request).models.serving.items()})
