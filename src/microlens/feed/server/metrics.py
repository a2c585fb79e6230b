"""Metrics of the server for Prometheus."""

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

from microlens.feed.database import Row
from microlens.feed.server.activity import Activity

_LATEST_TIMES = 1000
_LATEST_MISTAKES = 50
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Counters of one server.

    Attributes:
        activity: what happened lately.
        mistakes: requests that failed, the newest last.
    """

    def __init__(self) -> None:
        self.activity = Activity()
        self._registry = CollectorRegistry()
        labels = ("route", "method", "status")
        self._requests = Histogram(
            "microlens_request_seconds", "Time to answer", labels, buckets=_SECONDS, registry=self._registry
        )
        self._exposures = Counter(
            "microlens_exposures", "Items handed out", ("model", "reason"), registry=self._registry
        )
        self._events = Counter("microlens_events", "Events stored", ("kind",), registry=self._registry)
        self._refused = Counter("microlens_events_refused", "Events refused", registry=self._registry)
        self._latest: dict[str, deque[float]] = {}
        self.mistakes: deque[str] = deque(maxlen=_LATEST_MISTAKES)
        self._people = Gauge("microlens_people_in_memory", "People whose state is in memory", registry=self._registry)

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request; routes are named by their pattern, so that there are few."""
        route = getattr(scope.get("route"), "path", "other")
        self._requests.labels(route, scope["method"], str(status)).observe(seconds)
        self._latest.setdefault(route, deque(maxlen=_LATEST_TIMES)).append(seconds)
        if status >= 500:
            self.mistakes.append(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {scope['method']} {route}: {status}")

    def milliseconds(self) -> dict[str, tuple[float, float]]:
        """The median and the 99th percentile of the latest times to answer of each route."""
        return {
            route: (1000 * float(np.quantile(seconds, 0.5)), 1000 * float(np.quantile(seconds, 0.99)))
            for route, seconds in self._latest.items()
        }

    def exposures(self, rows: Sequence[Row]) -> None:
        """Count items handed out."""
        self.activity.note_exposures(rows)
        for row in rows:
            self._exposures.labels(row["model"], row["reason"]).inc()

    def events(self, rows: Sequence[Row], refused: int) -> None:
        """Count events."""
        self.activity.note_events(rows)
        for row in rows:
            self._events.labels(row["kind"]).inc()
        self._refused.inc(refused)

    def text(self, people: int) -> bytes:
        """All metrics in the format of Prometheus."""
        self._people.set(people)
        return generate_latest(self._registry)
