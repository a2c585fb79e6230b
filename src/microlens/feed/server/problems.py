"""Errors as problem details (RFC 9457)."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from microlens.errors import InputError, one_line
from microlens.feed.group_commit import StoreUnavailableError

RETRY_SECONDS = 2


class Problem(BaseModel):
    """Why a request was refused."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class ProblemResponse(JSONResponse):
    """A problem as a response."""

    media_type = "application/problem+json"


RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"description": "Problem details", "content": {"application/problem+json": {}}, "model": Problem},
}
"""The documentation of errors, for routes."""


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> ProblemResponse:
    """A response that says what is wrong in one sentence."""
    title = HTTPStatus(status).phrase
    content = {"type": "about:blank", "title": title, "status": status, "detail": one_line(detail)}
    return ProblemResponse(content, status, headers)


def add_problem_handlers(app: FastAPI) -> None:
    """Answer all errors of an application with problem details."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ValidationError, _invalid)
    app.add_exception_handler(InputError, _input)
    app.add_exception_handler(StoreUnavailableError, _unavailable)
    app.add_exception_handler(Exception, _bug)


async def _http(_: Request, error: Any) -> ProblemResponse:
    return problem(error.status_code, str(error.detail), error.headers)


async def _invalid(_: Request, error: Any) -> ProblemResponse:
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"] if part != "body")
    return problem(422, f"{where}: {fault['msg']}" if where else fault["msg"])


async def _input(_: Request, error: Exception) -> ProblemResponse:
    return problem(422, str(error))


async def _unavailable(_: Request, __: Exception) -> ProblemResponse:
    detail = "the event store is not available; nothing was stored, send the same again"
    return problem(503, detail, {"Retry-After": str(RETRY_SECONDS)})


async def _bug(_: Request, __: Exception) -> ProblemResponse:
    return problem(500, "the server made a mistake, which is in its log")
