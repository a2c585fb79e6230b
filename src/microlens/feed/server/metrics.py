"""Metrics of the server for Prometheus."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

from microlens.feed.event_store import Row

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
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
        self._people = Gauge("microlens_people_in_memory", "People whose state is in memory", registry=self._registry)

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request; routes are named by their pattern, so that there are few."""
        route = getattr(scope.get("route"), "path", "other")
        self._requests.labels(route, scope["method"], str(status)).observe(seconds)

    def exposures(self, rows: Iterable[Row]) -> None:
        """Count items handed out."""
        for row in rows:
            self._exposures.labels(row["model"], row["reason"]).inc()

    def events(self, rows: Iterable[Row], refused: int) -> None:
        """Count events."""
        for row in rows:
            self._events.labels(row["kind"]).inc()
        self._refused.inc(refused)

    def text(self, people: int) -> bytes:
        """All metrics in the format of Prometheus."""
        self._people.set(people)
        return generate_latest(self._registry)
