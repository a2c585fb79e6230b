"""Whose request it is: the running feed, and the cookie of a person."""

from typing import cast

from fastapi import Request, Response

from microlens.feed.live import Feed

PERSON_COOKIE = "microlens_person"
_A_YEAR = 365 * 86_400


def feed_of(request: Request) -> Feed:
    """The running feed."""
    return cast(Feed, request.app.state.feed)


def set_person(request: Request, response: Response, secret: str) -> None:
    """Make a browser that of a person."""
    response.set_cookie(
        PERSON_COOKIE, secret, max_age=_A_YEAR, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )
