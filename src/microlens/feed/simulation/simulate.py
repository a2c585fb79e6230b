"""Many simulated people at once, and how well the feed does for them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from microlens.errors import InputError
from microlens.evaluation.significance import Estimate, estimate
from microlens.feed.simulation.new_videos import lacking_items, shares_of_new, upload
from microlens.feed.simulation.person import Shown, SimulatedPerson
from microlens.feed.simulation.truth import Truth
from microlens.files.progress_bar import OnProgress

_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A mean over people with its 95 % interval; the interval is the mean itself for a single person."""

    mean: float
    low: float
    high: float
    people: int


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What simulated people saw.

    Attributes:
        people: number of people.
        videos: number of videos for each.
        seed: seed of their tastes and draws.
        chance: the like-rate of a feed that chooses at random.
        models: the like-rate of each model: the mean probability with which a person likes what it showed them.
        curves: for each model the like-rate by position, from a person's first video on.
        next_ms: median and 99th percentile of the time to get the next video.
        of_people: the like-rate of each person.
        uploaded: the videos that were uploaded on the way: the id of each in the feed, and that of the release.
        new_shares: for each model the share of these in what it chose, without exploration, for twenty groups of people
            in the order in which they came; None for a group for whom it chose nothing.
    """

    people: int
    videos: int
    seed: int
    chance: float
    models: dict[str, Rate]
    curves: dict[str, list[Rate]]
    next_ms: dict[str, float]
    of_people: list[float]
    uploaded: dict[str, str] = field(default_factory=dict)
    new_shares: dict[str, list[float | None]] = field(default_factory=dict)

    def ahead_of(self, other: "Simulation") -> Estimate:
        """The difference between the like-rates of the same people in this simulation and in an earlier one.

        Raises:
            InputError: they are not the same people.
        """
        if (self.seed, self.people) != (other.seed, other.people):
            raise InputError("the simulations have other people; give both the same number of them and the same seed.")
        return estimate(np.array([self.of_people]), np.array([other.of_people]))


def simulate(
    release: str | Path,
    url: str = "http://127.0.0.1:8000",
    *,
    people: int = 100,
    videos: int = 40,
    seed: int = 0,
    at_once: int = 8,
    only: str | None = None,
    new_videos: int = 0,
    uploaded: Mapping[str, str] | None = None,
    token: str | None = None,
    on_progress: OnProgress | None = None,
) -> Simulation:
    """Let simulated people use a running feed of a synthetic release over its HTTP API.

    Each is new to the feed, and has the taste of a user of the release, drawn at random. They watch to the end, and
    sometimes like or comment, what they like, and skip the rest. They do not wait while they watch.

    Args:
        release: the synthetic release that is served.
        url: address of the feed.
        people: number of people.
        videos: number of videos that each watches.
        seed: seed of their tastes and of all that they do.
        at_once: number of people who use the feed at the same time.
        only: an attribute of the items, such as colour: people like what has their favourite value, and nothing else.
        new_videos: number of videos of the release, of those that the feed does not have, that are uploaded when half
            of the people have been there.
        uploaded: videos that an earlier simulation has uploaded, see :class:`Simulation`.
        token: the token that admits people to the feed.
        on_progress: called with (done, total) people.

    Raises:
        InputError: the release is not synthetic or has no attribute ``only``, the feed does not answer, shows other
            items or refuses a video, lacks fewer videos than are to be uploaded, or a number is too small.
    """
    for name, number in (("people", people), ("videos", videos), ("at_once", at_once)):
        if number < 1:
            raise InputError(f"{name} is {number}; accepted is 1 or more.")
    if new_videos < 0:
        raise InputError(f"new_videos is {new_videos}; accepted is 0 or more.")
    truth = Truth.load(Path(release), only)
    known = dict(uploaded or {})
    truth.add_uploads(known)
    rng = np.random.default_rng([seed])
    users = [truth.users[index] for index in rng.integers(len(truth.users), size=people)]
    crowd = _Crowd(truth, users, url, token, on_progress, asks_why=bool(new_videos or known))

    async def use() -> list[Shown]:
        half = people // 2 if new_videos else people
        shown = await crowd.use(range(half), videos, seed, at_once)
        if new_videos:
            known.update(await crowd.upload(Path(release), new_videos))
        return shown + await crowd.use(range(half, people), videos, seed, at_once)

    shown = asyncio.run(use())
    of_model: dict[str, list[Shown]] = {}
    for one in shown:
        of_model.setdefault(one.model, []).append(one)
    milliseconds = [1000 * one.seconds for one in shown]
    return Simulation(
        people=people,
        videos=videos,
        seed=seed,
        chance=truth.average(users),
        models={model: like_rate(of_model[model]) for model in sorted(of_model)},
        curves={model: like_rates(of_model[model]) for model in sorted(of_model)},
        next_ms={"median": float(np.median(milliseconds)), "p99": float(np.quantile(milliseconds, 0.99))},
        of_people=_of_people(shown),
        uploaded=known,
        new_shares=shares_of_new(shown, set(known), people) if known else {},
    )


class _Crowd:
    """People who use a feed; one who fails ends them all."""

    def __init__(
        self,
        truth: Truth,
        users: Sequence[str],
        url: str,
        token: str | None,
        on_progress: OnProgress | None,
        *,
        asks_why: bool,
    ) -> None:
        self._truth, self._users, self._on_progress = truth, users, on_progress
        self._asks_why = asks_why
        self._done = 0
        self._options: dict[str, Any] = {
            "base_url": url,
            "headers": {} if token is None else {"Authorization": f"Bearer {token}"},
            "verify": httpx.create_ssl_context(),
            "timeout": _TIMEOUT_SECONDS,
        }

    def client(self) -> httpx.AsyncClient:
        """A client of the feed without cookies, to be closed."""
        return httpx.AsyncClient(**self._options)

    async def use(self, numbers: range, videos: int, seed: int, at_once: int) -> list[Shown]:
        """Let the people with some numbers watch; returns what was shown to all."""
        places = asyncio.Semaphore(at_once)

        async def one(number: int) -> list[Shown]:
            async with places, self.client() as client:
                person = SimulatedPerson(
                    number, self._users[number], self._truth, client, seed, asks_why=self._asks_why
                )
                shown = await person.watch(videos)
            self._done += 1
            if self._on_progress is not None:
                self._on_progress(self._done, len(self._users))
            return shown

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(number)) for number in numbers]
        except* InputError as errors:
            raise errors.exceptions[0] from None
        return [shown for task in tasks for shown in task.result()]

    async def upload(self, release: Path, count: int) -> dict[str, str]:
        """Upload some of the videos that the feed lacks; returns the item of the release by the id in the feed."""
        async with self.client() as client:
            lacking = await lacking_items(self._truth, client)
        if len(lacking) < count:
            raise InputError(f"the feed lacks {len(lacking)} videos of {release}, so that {count} cannot be uploaded.")
        uploaded = {}
        for item in lacking[:count]:
            async with self.client() as client:
                uploaded[await upload(release, item, client)] = item
        self._truth.add_uploads(uploaded)
        return uploaded


def like_rate(shown: Sequence[Shown]) -> Rate:
    """The mean over people of the mean liking of what was shown to each."""
    of_people = _of_people(shown)
    found = estimate(np.array([of_people]))
    low, high = found.interval if found.error else (found.mean, found.mean)
    return Rate(mean=found.mean, low=max(0.0, low), high=min(1.0, high), people=len(of_people))


def _of_people(shown: Sequence[Shown]) -> list[float]:
    """The mean liking of what was shown to each person, by number."""
    likings: dict[int, list[float]] = {}
    for one in shown:
        likings.setdefault(one.person, []).append(one.liking)
    return [float(np.mean(likings[person])) for person in sorted(likings)]


def like_rates(shown: Sequence[Shown]) -> list[Rate]:
    """The like-rate by position, up to the last one shown."""
    last = max(one.position for one in shown)
    by_position: list[list[Shown]] = [[] for _ in range(last + 1)]
    for one in shown:
        by_position[one.position].append(one)
    return [like_rate(some) for some in by_position if some]
