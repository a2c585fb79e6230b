"""Routes for operators: rules, models, people, and the state of the server."""

import asyncio
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, Field

from microlens.errors import InputError
from microlens.feed.people import now_ms
from microlens.feed.server.people import feed_of
from microlens.feed.server.problems import RESPONSES

router = APIRouter(tags=["operator"], responses=RESPONSES)
_NOW_MS = 5 * 60 * 1000


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


class ItemRule(Rule):
    """The rule of an item."""

    item: str


class MetricsResponse(Response):
    """The text format of Prometheus."""

    media_type = "text/plain; version=0.0.4"


class Overview(BaseModel):
    """The state of a server; totals are those of the event store, times and mistakes those of this server.

    ``people_now`` are the people who did something in the last five minutes.
    """

    serving: dict[str, str]
    former: dict[str, str]
    interleaved: bool
    people_now: int
    people: int
    sessions: int
    exposures: int
    events: dict[str, int]
    items: int
    milliseconds: dict[str, Milliseconds]
    mistakes: list[str]
    rules: list[ItemRule]


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
    feed, metrics = feed_of(request), request.app.state.metrics
    totals = await asyncio.to_thread(feed.store.totals)
    return Overview(
        serving={arm: model.id for arm, model in feed.models.serving.items()},
        former=feed.models.former,
        interleaved=feed.models.interleave,
        people_now=feed.people.count_since(now_ms() - _NOW_MS),
        items=len(feed.catalogue),
        milliseconds={route: Milliseconds(median=p50, p99=p99) for route, (p50, p99) in metrics.milliseconds().items()},
        mistakes=list(metrics.mistakes),
        rules=[ItemRule(**rule) for rule in await asyncio.to_thread(feed.store.rules)],
        **totals,
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
