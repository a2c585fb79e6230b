"""Routes for videos and covers, with ranges, validators and caching."""

import asyncio
import os
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse

from microlens.feed.server.cookies import feed_of
from microlens.feed.server.people import shown_number
from microlens.feed.server.problems import RESPONSES

router = APIRouter(tags=["media"], responses=RESPONSES)
_CACHED = "private, max-age=3600"
_TYPES = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".jpe": "image/jpeg", ".jfif": "image/jpeg", ".png": "image/png",
    ".webp": "image/webp", ".gif": "image/gif", ".bmp": "image/bmp", ".avif": "image/avif", ".apng": "image/apng",
}  # fmt: skip


@router.head("/media/{item:path}", include_in_schema=False)
@router.get("/media/{item:path}", response_class=FileResponse)
async def video(request: Request, item: str) -> Response:
    """The video of an item."""
    feed = feed_of(request)
    return await _file(request, feed.catalogue.item(shown_number(feed, item)).video)


@router.head("/covers/{item:path}", include_in_schema=False)
@router.get("/covers/{item:path}", response_class=FileResponse)
async def cover(request: Request, item: str) -> Response:
    """The cover of an item."""
    feed = feed_of(request)
    return await _file(request, feed.catalogue.item(shown_number(feed, item)).cover)


async def _file(request: Request, path: Path | None) -> Response:
    """A file by a path that the catalogue holds; no part of it comes from the client."""
    if path is None:
        raise HTTPException(404, "the item has no such file")
    try:
        status = await asyncio.to_thread(os.stat, path)
    except OSError:
        raise HTTPException(404, "the file of the item is gone") from None
    kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
    response = FileResponse(path, stat_result=status, media_type=kind, headers={"Cache-Control": _CACHED})
    if request.headers.get("if-none-match") == response.headers["etag"]:
        return Response(status_code=304, headers={"ETag": response.headers["etag"], "Cache-Control": _CACHED})
    return response
