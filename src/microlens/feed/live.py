"""A running feed: chooses the next items for people, records what they do, and changes models and rules meanwhile."""

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from microlens.errors import InputError
from microlens.feed.catalogue import Catalogue
from microlens.feed.choosing import Choice, Part, Ranking, draw, policy_of, rank_of
from microlens.feed.event_store import ConflictError, EventStore, Row
from microlens.feed.events import FUTURE_MS, Event, Recorded, Refused
from microlens.feed.item_counts import ItemCounts
from microlens.feed.models import Models
from microlens.feed.people import People, now_ms
from microlens.feed.person import Person, Session, watched_share
from microlens.feed.schema import MODELS, RULES
from microlens.feed.served_model import ServedModel
from microlens.feed.settings import FeedSettings

MOST_AT_ONCE = 5
_SCORING_THREADS = 2
_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Exposure:
    """An item that is handed out, as it is recorded; ``row`` is its row in the store."""

    row: dict[str, Any]
    number: int
    model: ServedModel
    history: list[int]


@dataclass(frozen=True, kw_only=True)
class NextItems:
    """The next items for a person; ``used_up`` says that they had been shown before."""

    exposures: list[Exposure]
    used_up: bool


class Feed:
    """A feed of the models in ``models``, over the items in ``catalogue``, with its records in ``store``."""

    def __init__(self, store: EventStore, catalogue: Catalogue, models: Models, settings: FeedSettings) -> None:
        self.store, self.catalogue, self.models, self.settings = store, catalogue, models, settings
        self.people = People(store, catalogue, models, settings)
        self.interactions = _interactions(catalogue)
        self.counts = ItemCounts.load(store, len(catalogue.active), catalogue.number, catalogue.duration_ms)
        self._scoring = ThreadPoolExecutor(
            _SCORING_THREADS, "scoring", initializer=torch.set_num_threads, initargs=(1,)
        )
        catalogue.apply_rules(store.rules())
        for model in models.serving.values():
            self._note(model)

    def close(self) -> None:
        """End the threads, and commit what is left."""
        self._scoring.shutdown()
        self.store.close()

    # Choosing

    async def next_items(self, person: Person, session: Session, count: int, opened: str | None = None) -> NextItems:
        """Choose and record the next items of a session.

        Args:
            person: the person.
            session: a session of the person.
            count: number of items.
            opened: id of an item that the person has opened by its address, and that comes first.

        Raises:
            InputError: there is no item ``opened``, or it was taken down.
            StoreUnavailableError: the store does not answer.
        """
        first = None if opened is None else self.shown_number(opened)
        with _busy(person):
            async with person.choosing:
                for _ in range(_ATTEMPTS):
                    chosen = await self._in_thread(self._choose_all, person, session, count, first)
                    rows = [exposure.row for exposure in chosen.exposures]
                    try:
                        if rows:
                            await asyncio.wrap_future(self.store.add_exposures(rows, len(person.exposures)))
                        break
                    except ConflictError:
                        person = await self.people.find(person.id) or person
                        session = person.sessions[session.id]
                for exposure in chosen.exposures:
                    person.show(exposure.row, exposure.number)
                    self.counts.exposures[exposure.number] += 1
        return chosen

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._scoring, function, *arguments)

    def shown_number(self, item: str) -> int:
        """The number of an item that may be shown.

        Raises:
            InputError: there is no such item, or it is not shown.
        """
        number = self.catalogue.number(item)
        if number is None or not self.catalogue.active[number]:
            raise InputError(f"there is no item '{item}'.")
        return number

    def _choose_all(self, person: Person, session: Session, count: int, first: int | None) -> NextItems:
        serving = self.models.serving
        history, scores = self._read(person, serving), dict[str, Any]()
        candidates = self._candidates(person, session, history)
        picks, request, created = session.picks.copy(), secrets.token_hex(12), now_ms()
        exposures: list[Exposure] = []
        used_up = False
        for place in range(count):
            position = session.shown + place
            arms = self.models.next_arms(person.arm, picks)
            for arm in arms:
                if arm not in scores and history[arm]:
                    scores[arm] = _padded(serving[arm].scores(history[arm]), len(candidates))
            rankings = [Ranking(arm=arm, scores=scores[arm]) for arm in arms if arm in scores]
            policy = self._policy(person, position, candidates, rankings, first if place == 0 else None)
            if not policy:
                break
            used_up |= policy[0].reason == "again"
            choice = draw(policy, self._random(person, position))
            candidates[choice.item] = False
            if choice.arm is not None:
                picks[choice.arm] += 1
            arm = choice.arm or arms[0]
            row = {
                "request_id": request,
                "position": position,
                "session": session.id,
                "person": person.id,
                "created": created,
                **self._described(choice, serving[arm], scores.get(arm), person),
            }
            exposures.append(Exposure(row=row, number=choice.item, model=serving[arm], history=history[arm]))
        return NextItems(exposures=exposures, used_up=used_up)

    def _read(self, person: Person, serving: dict[str, ServedModel]) -> dict[str, list[int]]:
        return {arm: [*model.continued, *person.history] for arm, model in serving.items()}

    def _candidates(self, person: Person, session: Session, history: dict[str, list[int]]) -> Any:
        candidates = self.catalogue.active.copy()
        if not session.adult:
            candidates &= ~self.catalogue.adult
        candidates[list(person.shown)] = False
        for items in history.values():
            candidates[items] = False
        return candidates

    def _policy(
        self, person: Person, position: int, candidates: Any, rankings: list[Ranking], first: int | None
    ) -> list[Part]:
        if first is not None:
            return [Part.certain(first, "opened")]
        pinned = next((item for pin, item in self.catalogue.pins if pin <= position + 1 and candidates[item]), None)
        if pinned is not None:
            return [Part.certain(pinned, "pinned")]
        if candidates.any():
            return policy_of(rankings, candidates, self.counts, self.interactions, self.settings.exploration)
        return self._again(person)

    def _again(self, person: Person) -> list[Part]:
        """The item that was shown least recently, of those that may be shown and were not refused."""
        for item in person.shown:
            refused = item in person.feedback and person.feedback[item].uninterested
            if self.catalogue.active[item] and not refused:
                return [Part.certain(item, "again")]
        return []

    def _random(self, person: Person, position: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, int(person.id[:15], 16), position])

    def _described(self, choice: Choice, model: ServedModel, scores: Any, person: Person) -> dict[str, Any]:
        """The columns of an exposure that say why the item was chosen."""
        ranked = scores is not None and scores[choice.item] > -np.inf
        return {
            "item": self.catalogue.id(choice.item),
            "model": model.id,
            "reason": choice.reason,
            "score": float(scores[choice.item]) if ranked else None,
            "rank": rank_of(choice.item, scores) if ranked else None,
            "explored": choice.reason == "explored",
            "propensity": choice.propensity,
            "arm": choice.arm if self.models.interleave else person.arm,
        }

    # Recording

    async def record(self, person: Person, events: Sequence[Event | Refused]) -> tuple[Recorded, list[Row]]:
        """Store events durably, and apply them to the person and to the counts.

        Returns:
            What became of them, and the rows that are new.

        Raises:
            StoreUnavailableError: nothing was stored; the same events may be sent again.
        """
        received = now_ms()
        refused = [event for event in events if isinstance(event, Refused)]
        rows: list[dict[str, Any]] = []
        for event in sorted((event for event in events if isinstance(event, Event)), key=lambda event: event.at):
            why = self._why_refused(event, person, received)
            if why:
                refused.append(Refused(id=event.id, why=why))
            else:
                rows.append(self._event_row(event, person, received))
        with _busy(person):
            new = await asyncio.wrap_future(self.store.add_events(rows)) if rows else []
            for row in new:
                self._apply(person, row)
        return Recorded(stored=len(new), repeated=len(rows) - len(new), refused=refused), new

    def _why_refused(self, event: Event, person: Person, received: int) -> str | None:
        if (event.request_id, event.position) not in person.exposures:
            return f"nothing was shown at position {event.position} of request {event.request_id}"
        if event.at > received + FUTURE_MS:
            return "at is in the future; is the clock of the client right?"
        most = self.settings.limits.comment_length
        if event.kind == "comment" and len(event.said or "") > most:
            return f"a comment has at most {most:,} characters"
        return None

    def _event_row(self, event: Event, person: Person, received: int) -> dict[str, Any]:
        number, session = person.exposures[event.request_id, event.position]
        return {
            "event": event.id,
            "kind": event.kind,
            "request_id": event.request_id,
            "position": event.position,
            "session": session,
            "person": person.id,
            "item": self.catalogue.id(number),
            "watched_ms": event.watched_ms,
            "loops": event.loops,
            "duration_ms": event.duration_ms,
            "text": event.said,
            "at": event.at,
            "received": received,
        }

    def _apply(self, person: Person, row: Row) -> None:
        number, _ = person.exposures[row["request_id"], row["position"]]
        duration = self.catalogue.duration_ms(number)
        before = person.feedback.get(number)
        liked = before is not None and before.liked
        person.apply(row, number, duration)
        self.counts.likes[number] += int(person.feedback[number].liked) - int(liked)
        self.counts.views[number] += row["kind"] == "start"
        self.counts.comments[number] += row["kind"] == "comment"
        if row["kind"] == "end":
            self.counts.ends[number] += 1
            self.counts.watched[number] += watched_share(row, duration)

    # Changing

    async def set_rule(self, item: str, state: str, pin: int | None) -> None:
        """Pin an item, take it down, or make it an item like the others again.

        Raises:
            InputError: there is no such item.
        """
        if self.catalogue.number(item) is None:
            raise InputError(f"there is no item '{item}'.")
        await asyncio.wrap_future(self.store.put(RULES, item=item, state=state, pin=pin, changed=now_ms()))
        await self.refresh()

    async def refresh(self) -> None:
        """Read what another server may have changed: rules, and counts."""
        self.catalogue.apply_rules(await asyncio.to_thread(self.store.rules))

    async def forget(self, person: str) -> bool:
        """Delete a person; False if there is none."""
        if await asyncio.to_thread(self.store.person, person) is None:
            return False
        await asyncio.wrap_future(self.store.delete_person(person))
        self.people.forget(person)
        return True

    def replace_model(self, folder: Path, arm: str | None = None) -> ServedModel:
        """Load a run and serve it in an arm, by default the only one; takes as long as loading, and blocks nobody.

        Raises:
            InputError: the run cannot be served, or the arm is unknown.
        """
        arm = self._arm(arm)
        former = self.models.serving[arm]
        model = ServedModel.open(folder, former.dataset.folder)
        self.models.replace(arm, model)
        self._note(model)
        return model

    def back(self, arm: str | None = None) -> ServedModel:
        """Serve the former model of an arm again.

        Raises:
            InputError: there is none.
        """
        model = self.models.back(self._arm(arm))
        self._note(model)
        return model

    def _arm(self, arm: str | None) -> str:
        arms = self.models.arms
        if arm is None and len(arms) > 1:
            raise InputError(f"the feed serves {', '.join(arms)}; say which is meant with arm.")
        if arm is not None and arm not in arms:
            raise InputError(f"there is no model '{arm}'; the feed serves {', '.join(arms)}.")
        return arm or arms[0]

    def _note(self, model: ServedModel) -> None:
        row = {"model": model.id, "folder": str(model.folder.resolve()), "digest": model.digest, "loaded": now_ms()}
        self.store.add(MODELS, **row)


@contextmanager
def _busy(person: Person) -> Iterator[None]:
    person.busy += 1
    try:
        yield
    finally:
        person.busy -= 1


def _padded(scores: Any, size: int) -> Any:
    """Scores (C,) for a catalogue that has grown meanwhile."""
    missing = size - len(scores)
    return np.append(scores, np.full(missing, -np.inf, scores.dtype)) if missing > 0 else scores[:size]


def _interactions(catalogue: Catalogue) -> Any:
    """The number of interactions of each item in the dataset: (C,)."""
    counts = np.bincount(catalogue.dataset.interactions.items, minlength=len(catalogue.active))
    return counts[: len(catalogue.active)].astype(np.int64)
