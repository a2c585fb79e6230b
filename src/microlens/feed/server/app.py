"""The application: routes, page and the layer around them."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import resources
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

import microlens
from microlens.feed.group_commit import StoreUnavailableError
from microlens.feed.live import Feed
from microlens.feed.server import media, operator, people, study, uploads
from microlens.feed.server.access import TOKEN_COOKIE, Access, RateLimit
from microlens.feed.server.guard import Guard
from microlens.feed.server.metrics import Metrics
from microlens.feed.server.problems import add_problem_handlers

PAGE = Path(str(resources.files("microlens.feed"))) / "page"
_REFRESH_SECONDS = 0.5
_COUNTS_EVERY = 20  # refreshes
_log = logging.getLogger(__name__)


def create_app(feed: Feed, access: Access | None = None) -> FastAPI:
    """The server of a feed, which it closes when it stops.

    Args:
        feed: the running feed.
        access: who may use it; by default everyone who reaches a loopback address.
    """
    access, limits, metrics = access or Access(), feed.settings.limits, Metrics()
    allowed = access.is_private if feed.settings.uploads is None else feed.settings.uploads

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        refreshing = None if feed.store.exclusive else asyncio.create_task(_refresh(feed, stopping))
        yield
        stopping.set()
        if refreshing is not None:
            await refreshing
        await asyncio.to_thread(feed.close)

    app = FastAPI(
        title="microlens feed", version=microlens.__version__, lifespan=running, docs_url=None, redoc_url=None
    )
    app.openapi_url = "/openapi.json"
    app.state.feed, app.state.metrics, app.state.access = feed, metrics, access
    app.state.uploads_allowed, app.state.upload_rate = allowed, RateLimit(limits.uploads_an_hour / 60)
    add_problem_handlers(app)
    for router in (people.router, uploads.router, media.router, operator.router, study.router):
        app.include_router(router)
    _add_pages(app, access)
    app.add_middleware(
        Guard,
        access=access,
        rate=RateLimit(limits.requests_a_minute),
        is_known=feed.people.has_seen,
        body_bytes=limits.body_bytes,
        upload_bytes=limits.upload_bytes if allowed else 0,
        metrics=metrics,
    )
    return app


def _add_pages(app: FastAPI, access: Access) -> None:
    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return _admitted(request, access) or _page("index.html")

    @app.get("/operator", include_in_schema=False)
    async def operator_page(request: Request) -> Response:
        return _admitted(request, access) or _page("operator.html")

    app.mount("/static", StaticFiles(directory=PAGE, check_dir=False))


def _admitted(request: Request, access: Access) -> Response | None:
    """The page once more with the token of its address in a cookie instead; None if the address has none."""
    given = request.query_params.get("token")
    if given is None or not access.admits(given):
        return None
    rest = request.url.remove_query_params("token")
    answer = RedirectResponse(f"{rest.path}?{rest.query}" if rest.query else rest.path, 303)
    answer.set_cookie(TOKEN_COOKIE, given, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return answer


def _page(name: str) -> Response:
    return FileResponse(PAGE / name, headers={"Cache-Control": "no-cache"})


async def _refresh(feed: Feed, stopping: asyncio.Event) -> None:
    """Follow what other servers change, until the server stops; a refresh that has begun is ended first."""
    for number in itertools.count(1):
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _REFRESH_SECONDS)
            return
        try:
            await feed.refresh(counts=number % _COUNTS_EVERY == 0)
        except StoreUnavailableError as error:
            _log.warning("the event store cannot be read: %s", error)
