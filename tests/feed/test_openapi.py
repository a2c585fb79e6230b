"""Requests made from the description of the API: it keeps its word, and no request is a mistake of the server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microlens.feed.server.access import Access
from microlens.feed.server.running import open_feed
from microlens.feed.settings import FeedSettings
from tests.feed.conftest import NO_EXPLORATION, Visitor, running_server

schemathesis = pytest.importorskip("schemathesis", reason="the tests of the API's description need schemathesis")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

OPERATIONS = [
    "POST /api/sessions",
    "POST /api/next",
    "POST /api/events",
    "POST /api/study",
    "POST /api/study/consent",
    "POST /api/study/answers",
    "POST /api/admin/study",
    "POST /api/items",
    "GET /api/items/{item}",
    "GET /api/items/{item}/comments",
    "GET /media/{item}",
    "GET /covers/{item}",
    "GET /api/admin/items",
    "POST /api/admin/items/{item}",
    "POST /api/admin/model",
    "POST /api/admin/model/back",
    "GET /api/admin/overview",
    "DELETE /api/users/{person}",
    "DELETE /api/people/me",
    "GET /health",
    "GET /ready",
    "GET /metrics",
]
NOT_DESCRIBED = {"POST /api/admin/model": [checks.positive_data_acceptance]}  # most texts name no run


@pytest.fixture(scope="module")
def described(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    """The operations by method and path, and the address of a server."""
    url = f"sqlite:///{tmp_path_factory.mktemp('described')}/events.sqlite"
    feed = open_feed([world / "id"], url, FeedSettings.model_validate(NO_EXPLORATION), release=world / "release")
    with running_server(feed, Access()) as address:
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        found = [result.ok() for result in schema.get_all_operations()]
        yield {f"{one.method.upper()} {one.path}": one for one in found}, address


def test_all_operations_are_tried(described: tuple[Any, str]) -> None:
    assert {name.replace(":path", "") for name in described[0]} == set(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_api_is_as_it_is_described(described: tuple[Any, str], operation: str) -> None:
    operations, address = described
    with httpx.Client(base_url=address) as client:
        visitor = Visitor(client)
        item = visitor.next()[0]["item"]
        cookies = dict(client.cookies)

    @given(case=operations[operation].as_strategy(), is_real=st.booleans())
    @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def check(case: Any, is_real: bool) -> None:
        if is_real and isinstance(case.body, dict):
            case.body["session"] = visitor.session
        if is_real and "item" in (case.path_parameters or {}):
            case.path_parameters["item"] = item
        case.call_and_validate(cookies=cookies, excluded_checks=NOT_DESCRIBED.get(operation, []))

    check()
