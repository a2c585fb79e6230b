"""The route that adds a video of a person to the feed."""

import asyncio
import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from python_multipart.exceptions import MultipartParseError
from starlette.requests import ClientDisconnect

from microlens.feed.live import Feed
from microlens.feed.publishing import BusyError, Publisher
from microlens.feed.server.answers import ItemAnswer, described
from microlens.feed.server.cookies import feed_of
from microlens.feed.server.people import Known
from microlens.feed.server.problems import RESPONSES
from microlens.feed.server.upload_form import UploadForm, boundary_of
from microlens.feed.upload_folders import UploadFolder

router = APIRouter(prefix="/api", tags=["uploads"], responses=RESPONSES)
IDLE_SECONDS = 30.0
LONGEST_SECONDS = 1800.0
_RETRY_SECONDS = 10
_MOST_TAG = 50
_TAG = re.compile(r"\w[\w &'+./-]*")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "title"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "title": {"type": "string", "minLength": 1},
                        "tag": {"type": "string", "maxLength": _MOST_TAG},
                    },
                }
            }
        },
    }
}


@router.post("/items", status_code=201, openapi_extra=_FORM)
async def upload(request: Request, response: Response, person: Known) -> ItemAnswer:
    """Add a video, which is ranked from the next request on; answered when it has been checked, copied and stored."""
    feed, publisher = feed_of(request), _open_publisher(request)
    boundary = boundary_of(request.headers.get("content-type", ""))
    _slow_down(request, person.id)
    with _problems():
        folder = publisher.begin(person.id)
        try:
            title, tag = await _received(request, boundary, folder, feed)
        except BaseException:
            folder.close()
            raise
        publishing = publisher.publish(folder, title=title, tag=tag, person=person.id)
        number = await asyncio.shield(asyncio.wrap_future(publishing))  # closes the folder, however this request ends
    answer = ItemAnswer(**described(feed, person, number))
    response.headers["Location"] = f"/api/items/{answer.item}"
    return answer


def _open_publisher(request: Request) -> Publisher:
    feed = feed_of(request)
    if feed.publisher is None or not request.app.state.uploads_allowed:
        raise HTTPException(403, "this feed takes no videos")
    if not feed.uploads.ranked_by:
        raise HTTPException(
            409, "no model of this feed can rank a new video; it needs a run that reads titles or videos"
        )
    return feed.publisher


def _slow_down(request: Request, person: str) -> None:
    wait = request.app.state.upload_rate.wait(person)
    if wait:
        raise HTTPException(429, "too many videos; wait a little", {"Retry-After": f"{wait:.0f}"})


@contextmanager
def _problems() -> Iterator[None]:
    """Answer what can go wrong with an upload, apart from the file, with problem details."""
    try:
        yield
    except BusyError as error:
        raise HTTPException(429 if error.own else 503, str(error), {"Retry-After": str(_RETRY_SECONDS)}) from None
    except TimeoutError:
        raise HTTPException(408, "the video arrives too slowly") from None
    except ClientDisconnect:
        raise HTTPException(400, "the client went away") from None
    except MultipartParseError as error:
        raise HTTPException(400, f"the body is not the form that its type promises: {error}") from None
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise HTTPException(507, "the disk of the server is full; nothing was stored") from None


async def _received(request: Request, boundary: bytes, folder: UploadFolder, feed: Feed) -> tuple[str, str]:
    """Write the file of a request into a folder; returns title and tag."""
    with folder.received.open("xb") as file:
        form, pieces = UploadForm(boundary, file), request.stream()
        async with asyncio.timeout(LONGEST_SECONDS):
            while True:
                async with asyncio.timeout(IDLE_SECONDS):
                    piece = await anext(pieces, None)
                if piece is None:
                    break
                await asyncio.to_thread(form.write, piece)
        title, tag = _checked_title(form.text("title"), feed), _checked_tag(form.text("tag"), feed)
        size, most = file.tell(), feed.settings.limits.upload_bytes
    if size > most:
        raise HTTPException(413, f"the video has more than {most:,} bytes")
    return title, tag


def _checked_title(title: str, feed: Feed) -> str:
    most = feed.settings.limits.title_length
    if not title:
        raise HTTPException(422, "title: is missing")
    if len(title) > most:
        raise HTTPException(422, f"title: has more than {most:,} characters")
    return title


def _checked_tag(tag: str, feed: Feed) -> str:
    allowed, blocked = feed.settings.allowed_tags, feed.settings.blocked_tags
    if allowed and tag not in allowed:
        raise HTTPException(422, f"tag: accepted are {', '.join(allowed)}")
    if tag in blocked:
        raise HTTPException(422, "tag: is not accepted")
    if tag and not allowed and not (len(tag) <= _MOST_TAG and _TAG.fullmatch(tag)):
        raise HTTPException(422, f"tag: is up to {_MOST_TAG} letters, digits, spaces and signs such as & and -")
    return tag
