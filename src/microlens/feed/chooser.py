"""Choosing the next items of a session, among those that a person may be shown."""

import secrets
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from microlens.feed.candidates import Allowed, Bools, Candidates
from microlens.feed.catalogue import Catalogue
from microlens.feed.item_counts import ItemCounts
from microlens.feed.models import Models
from microlens.feed.people import now_ms
from microlens.feed.person import Person, Session
from microlens.feed.policies import Certain, Choice, Part, Ranking, draw, policy_of
from microlens.feed.score_cache import ScoreCache
from microlens.feed.scored_items import ScoredItems
from microlens.feed.served_model import ServedModel
from microlens.feed.settings import FeedSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class Exposure:
    """An item that is handed out: its row in the store, its number, the model, and the history that it read."""

    row: dict[str, Any]
    number: int
    model: ServedModel
    history: list[int]


@dataclass(frozen=True, kw_only=True)
class NextItems:
    """The next items for a person; ``used_up`` says that everything has been shown, and is shown again."""

    exposures: list[Exposure]
    used_up: bool


@dataclass(kw_only=True, eq=False)
class _Choosing:
    """What one request has in hand: the models as they were when it began, and what it has chosen so far."""

    person: Person
    session: Session
    serving: dict[str, ServedModel]
    histories: dict[str, list[int]]
    candidates: Candidates
    picks: Counter[str]
    cache: ScoreCache
    taken: set[int] = field(default_factory=set)
    scored: dict[str, ScoredItems] = field(default_factory=dict)

    def rankings(self, arms: list[str]) -> list[Ranking]:
        """The rankings by some models; none for a person without history."""
        for arm in arms:
            if arm not in self.scored and self.histories[arm]:
                self.scored[arm] = self.cache.scored(self.serving[arm], self.histories[arm])
        return [Ranking(arm=arm, scored=self.scored[arm]) for arm in arms if arm in self.scored]

    def take(self, choice: Choice) -> None:
        """Note a choice, which is no candidate any more."""
        self.candidates = self.candidates.minus([choice.item])
        self.taken.add(choice.item)
        if choice.arm is not None:
            self.picks[choice.arm] += 1


class Chooser:
    """Chooses items by the models of a feed, its rules and its settings."""

    def __init__(self, catalogue: Catalogue, models: Models, counts: ItemCounts, settings: FeedSettings) -> None:
        self._catalogue, self._models, self._counts, self._settings = catalogue, models, counts, settings
        self._cache, self._version = ScoreCache(), models.version
        self._allowed: dict[bool, tuple[Bools, Allowed]] = {}

    def choose(self, person: Person, session: Session, count: int, opened: int | None = None) -> NextItems:
        """Choose the next items of a session.

        A pinned item comes first, then the choice of the policy, and when everything has been shown the item shown
        least recently.

        Args:
            person: the person, who is not changed.
            session: the session.
            count: number of items.
            opened: number of an item that comes before all.
        """
        state = self._begin(person, session)
        request, created = secrets.token_hex(12), now_ms()
        exposures: list[Exposure] = []
        for position in range(session.shown, session.shown + count):
            arms = self._models.next_arms(session.arm or person.arm, state.picks)
            policy = self._policy(state, position, arms, opened if position == session.shown else None)
            if not policy:
                break
            choice = draw(policy, self._random(person, position))
            state.take(choice)
            arm = choice.arm or arms[0]
            row = {"request_id": request, "position": position, "created": created, **self._row(state, choice, arm)}
            exposures.append(
                Exposure(row=row, number=choice.item, model=state.serving[arm], history=state.histories[arm])
            )
        used_up = any(exposure.row["reason"] == "again" for exposure in exposures)
        return NextItems(exposures=exposures, used_up=used_up)

    def probability(self, item: int, person: Person, session: Session) -> float:
        """The probability that an item is the next one of a session, unless it is pinned or opened."""
        state = self._begin(person, session)
        policy = self._policy(state, session.shown, self._models.next_arms(person.arm, state.picks), None)
        return min(1.0, sum(part.share * part.probability(item) for part in policy))

    def _begin(self, person: Person, session: Session) -> _Choosing:
        serving, version = self._models.serving, self._models.version
        if version != self._version:
            self._version = version
            self._cache.keep(self._models.all)
        histories = {arm: model.known([*model.continued, *person.history]) for arm, model in serving.items()}
        candidates = Candidates(self._allowed_items(adult=session.adult), chain(person.shown, *histories.values()))
        return _Choosing(
            person=person,
            session=session,
            serving=serving,
            histories=histories,
            candidates=candidates,
            picks=session.picks.copy(),
            cache=self._cache,
        )

    def _allowed_items(self, *, adult: bool) -> Allowed:
        """The items that may be shown to adults, or to everybody, by the present rules."""
        active, only_adults = self._catalogue.active, self._catalogue.adult
        known = self._allowed.get(adult)
        if known is None or known[0] is not active:
            mask = active if adult else active > only_adults[: len(active)]
            known = self._allowed[adult] = active, Allowed(mask, self._counts)
        return known[1]

    def _policy(self, state: _Choosing, position: int, arms: list[str], opened: int | None) -> list[Part]:
        if opened is not None:
            return [Certain(item=opened, reason="opened", share=1.0)]
        candidates, pins = state.candidates, self._catalogue.pins
        pinned = next((item for pin, item in pins if pin <= position + 1 and item in candidates), None)
        if pinned is not None:
            return [Certain(item=pinned, reason="pinned", share=1.0)]
        # Those that are pinned to later positions have to wait, unless nothing else is left.
        candidates = candidates.minus(item for pin, item in pins if pin > position + 1) or candidates
        if candidates:
            return policy_of(state.rankings(arms), candidates, self._counts, self._settings.exploration)
        return self._again(state)

    def _again(self, state: _Choosing) -> list[Part]:
        """The item that was shown least recently, of those that may be shown and were not refused."""
        shown, feedback = state.person.shown, state.person.feedback
        active, adult = self._catalogue.active, self._catalogue.adult
        for item in shown:
            refused = item in feedback and feedback[item].uninterested
            allowed = active[item] and (state.session.adult or not adult[item])
            if allowed and not refused and item not in state.taken:
                return [Certain(item=item, reason="again", share=1.0)]
        return []

    def _random(self, person: Person, position: int) -> np.random.Generator:
        """Draws that are the same whenever the same person comes to the same position of a session."""
        return np.random.default_rng([self._settings.seed, int(person.id[:15], 16), len(person.exposures), position])

    def _row(self, state: _Choosing, choice: Choice, arm: str) -> dict[str, Any]:
        """The other columns of an exposure."""
        scored = state.scored.get(arm)
        place = None if scored is None else scored.place(choice.item)
        return {
            "session": state.session.id,
            "person": state.person.id,
            "item": self._catalogue.id(choice.item),
            "model": state.serving[arm].id,
            "reason": choice.reason,
            "score": None if place is None else place[0],
            "rank": None if place is None else place[1],
            "explored": choice.reason == "explored",
            "propensity": choice.propensity,
            "arm": choice.arm if self._models.interleave else arm,
        }
