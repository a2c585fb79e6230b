"""A simulated person: watches long what they like, skips what they don't, and sometimes likes or comments."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from microlens.errors import InputError
from microlens.feed.simulation.truth import Truth

PRESSES_LIKE = 0.3
COMMENTS = 0.03
_WATCHES = {True: (0.8, 1.0), False: (0.02, 0.3)}  # shares of a video that is liked, and of one that is not
_FALLBACK_MS = 10_000
_BUSY = (429, 503)
_ATTEMPTS = 60


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A video that was shown to a simulated person.

    Attributes:
        person: number of the person, from 0.
        position: position among the videos of the person, from 0.
        item: id of the item.
        model: the model that the exposure names.
        chosen: whether the model chose it, and not exploration or the like; True if that was not asked for.
        liking: probability with which the person likes the item.
        liked: whether they did.
        seconds: time until the feed had answered.
    """

    person: int
    position: int
    item: str
    model: str
    chosen: bool
    liking: float
    liked: bool
    seconds: float


class SimulatedPerson:
    """A new person of the feed, with the taste of a user of the synthetic release.

    Args:
        number: number of the person, from 0.
        user: the user.
        truth: who likes what.
        client: a client of the feed with cookies of its own.
        seed: seed of all draws, with the number.
        asks_why: whether to ask the feed why it has chosen each video.
    """

    def __init__(
        self, number: int, user: str, truth: Truth, client: httpx.AsyncClient, seed: int, *, asks_why: bool = False
    ) -> None:
        self._number, self._user, self._truth, self._client, self._asks_why = number, user, truth, client, asks_why
        self._rng = np.random.default_rng([seed, number])

    async def watch(self, videos: int) -> list[Shown]:
        """Watch a number of videos, one after the other; fewer if the feed has nothing left.

        Raises:
            InputError: the feed does not answer, or refuses.
        """
        session = (await self._post("/api/sessions", {}))["session"]
        shown = []
        for position in range(videos):
            began = time.perf_counter()
            exposures = (await self._post("/api/next", {"session": session, "why": self._asks_why}))["exposures"]
            seconds = time.perf_counter() - began
            if not exposures:
                break
            (exposure,) = exposures
            liking = self._truth.liking(self._user, exposure["item"])
            liked = bool(self._rng.random() < liking)
            await self._post("/api/events", {"session": session, "events": list(self._events(exposure, liked))})
            why = exposure["why"]
            chosen = why is None or why["reason"] == "model"
            facts = {"item": exposure["item"], "model": exposure["model"], "liking": liking, "liked": liked}
            shown.append(Shown(person=self._number, position=position, seconds=seconds, chosen=chosen, **facts))
        return shown

    def _events(self, exposure: dict[str, Any], liked: bool) -> Iterator[dict[str, Any]]:
        duration = exposure["duration_ms"] or _FALLBACK_MS
        watched = round(duration * self._rng.uniform(*_WATCHES[liked]))
        yield _event(exposure, "impression")
        yield _event(exposure, "start", duration_ms=duration)
        if liked and self._rng.random() < PRESSES_LIKE:
            yield _event(exposure, "like")
        if liked and self._rng.random() < COMMENTS:
            yield _event(exposure, "comment", text="I like this one.")
        yield _event(exposure, "end", watched_ms=watched, duration_ms=duration)

    async def _post(self, path: str, content: dict[str, Any]) -> Any:
        return (await call(self._client, "POST", path, json=content)).json()


async def call(
    client: httpx.AsyncClient, method: str, path: str, *, accepted: tuple[int, ...] = (), **content: Any
) -> httpx.Response:
    """Call the API of a feed; while it is busy, wait and try again.

    Args:
        client: the client.
        method: GET or POST.
        path: path of the API.
        accepted: status codes that are no errors, beside those of success.
        content: what is sent, as httpx takes it.

    Raises:
        InputError: the feed does not answer, or refuses.
    """
    for _ in range(_ATTEMPTS):
        try:
            answer = await client.request(method, path, **content)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise InputError(f"the feed at {client.base_url} does not answer ({reason}).") from None
        if answer.status_code not in _BUSY:
            break
        await asyncio.sleep(float(answer.headers.get("retry-after", 1)))
    if not answer.is_success and answer.status_code not in accepted:
        raise InputError(f"the feed at {client.base_url} refuses {path}: {_reason(answer)}.")
    return answer


def _event(exposure: dict[str, Any], kind: str, **facts: Any) -> dict[str, Any]:
    same = {"request_id": exposure["request_id"], "position": exposure["position"]}
    return {"id": uuid.uuid4().hex, "kind": kind, "at": time.time_ns() // 1_000_000, **same, **facts}


def _reason(answer: httpx.Response) -> str:
    is_problem = answer.headers.get("content-type", "").startswith("application/problem+json")
    return str(answer.json()["detail"]) if is_problem else f"status {answer.status_code}"
