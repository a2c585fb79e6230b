"""The outermost layer of the server: access, limits, headers and metrics of every request."""

import math
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from microlens.feed.people import person_of
from microlens.feed.server.access import TOKEN_COOKIE, Access, RateLimit, is_same_origin
from microlens.feed.server.cookies import PERSON_COOKIE
from microlens.feed.server.metrics import Metrics
from microlens.feed.server.problems import ProblemResponse, problem

OPEN_PATHS = ("/health", "/ready")
PAGES = ("/", "/operator")
OPERATOR_PATHS = ("/api/admin/", "/api/users/", "/operator", "/metrics")
UPLOAD_PATH = "/api/items"
_FORM_BYTES = 2**16  # of an upload, beside the file
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Refuses requests that may not pass, and adds the headers that tell browsers what a page may do.

    Args:
        app: the application.
        access: who may use it.
        rate: limits the requests of a client to the API.
        is_known: says whether a person is known, who is then limited by person instead of by address.
        body_bytes: greatest size of a body.
        upload_bytes: greatest size of an uploaded file; 0 if there are no uploads.
        metrics: counts requests.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        rate: RateLimit,
        is_known: Callable[[str], bool],
        body_bytes: int,
        upload_bytes: int,
        metrics: Metrics,
    ) -> None:
        self._app, self._access, self._rate, self._is_known = app, access, rate, is_known
        self._body_bytes, self._upload_bytes, self._metrics = body_bytes, upload_bytes, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, began = Headers(scope=scope), time.perf_counter()
        refusal = self._refusal(scope, headers)
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    added.setdefault(name, value)
                is_page = scope["path"].startswith("/static/")  # which browsers may keep and check
                added.setdefault("Cache-Control", "no-cache" if is_page else "no-store")
            await send(message)

        try:
            await (refusal or self._app)(scope, _limited(receive, self._most_bytes(scope)), send_with_headers)
        finally:
            self._metrics.request(scope, status, time.perf_counter() - began)

    def _refusal(self, scope: Scope, headers: Headers) -> ProblemResponse | None:
        path, cookies = scope["path"], cookie_parser(headers.get("cookie", ""))
        if not self._access.serves(headers.get("host", "")):
            return problem(421, "this server is not called so; open it by the address that it printed")
        if scope["method"] not in _SAFE_METHODS and not is_same_origin(headers):
            return problem(403, "the request comes from a page of another site")
        if path not in OPEN_PATHS and not self._admits(path, _given_token(scope, headers, cookies)):
            return problem(401, "a token is needed: open the address with ?token=TOKEN", {"WWW-Authenticate": "Bearer"})
        length, most = headers.get("content-length", "0"), self._most_bytes(scope)
        if length.isdecimal() and int(length) > most:
            return problem(413, f"the body has more than {most:,} bytes")
        return self._slowed(scope, cookies) if path.startswith("/api/") else None

    def _most_bytes(self, scope: Scope) -> int:
        if self._upload_bytes and scope["method"] == "POST" and scope["path"] == UPLOAD_PATH:
            return self._upload_bytes + _FORM_BYTES
        return self._body_bytes

    def _admits(self, path: str, token: str | None) -> bool:
        if path.startswith(OPERATOR_PATHS):
            return self._access.is_operator(token)
        return self._access.admits(token)

    def _slowed(self, scope: Scope, cookies: dict[str, str]) -> ProblemResponse | None:
        address = (scope.get("client") or ("unknown", 0))[0]
        secret = cookies.get(PERSON_COOKIE)
        person = None if secret is None else person_of(secret)
        client = person if person is not None and self._is_known(person) else address
        wait = self._rate.wait(client)
        if not wait:
            return None
        return problem(429, "too many requests; wait a little", {"Retry-After": str(math.ceil(wait))})


def _given_token(scope: Scope, headers: Headers, cookies: dict[str, str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    if scope["path"] in PAGES and scope["method"] == "GET":
        in_address: str | None = QueryParams(scope["query_string"]).get("token")
        return in_address or cookies.get(TOKEN_COOKIE)
    return cookies.get(TOKEN_COOKIE)


def _limited(receive: Receive, most: int) -> Receive:
    """Stop a body that is longer than it said."""
    left = most

    async def limited() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, f"the body has more than {most:,} bytes")
        return message

    return limited
