"""Policies: distributions over candidates, from which the next item is drawn with a known propensity."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from microlens.data.interactions import Int64
from microlens.feed import exploration
from microlens.feed.exploration import Floats
from microlens.feed.item_counts import ItemCounts
from microlens.feed.scored_items import ScoredItems
from microlens.feed.served_model import Bools
from microlens.feed.settings import ExplorationSettings

Reason = Literal["model", "popular", "explored", "pinned", "opened", "again"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Part(ABC):
    """A part of a policy: with probability ``share`` it chooses one of some items; ``arm`` is credited with it."""

    share: float
    reason: Reason
    arm: str | None = None

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> int:
        """Draw an item."""

    @abstractmethod
    def probability(self, item: int) -> float:
        """The probability of an item if this part of the policy chooses."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Certain(Part):
    """Always chooses the same item."""

    item: int

    def draw(self, rng: np.random.Generator) -> int:
        """The item."""
        return self.item

    def probability(self, item: int) -> float:
        """1 for the item."""
        return float(item == self.item)


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighted(Part):
    """Chooses one of ``items`` (K,) by ``probabilities`` (K,)."""

    items: Int64
    probabilities: Floats

    def draw(self, rng: np.random.Generator) -> int:
        """Draw an item."""
        return int(self.items[_index(self.probabilities, rng)])

    def probability(self, item: int) -> float:
        """The probability of an item, 0 for those that are not among the items."""
        return float(self.probabilities[self.items == item].sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class Popular(Part):
    """Chooses each of the items in ``among`` (C,) in proportion to its interactions (C,) plus one."""

    among: Bools
    interactions: Int64

    def draw(self, rng: np.random.Generator) -> int:
        """Draw an item."""
        cumulative = np.where(self.among, self.interactions + 1, 0).cumsum()
        return int(np.searchsorted(cumulative, rng.integers(self._total), side="right"))

    def probability(self, item: int) -> float:
        """The probability of an item, 0 for those that are not in ``among``."""
        return float(self.among[item]) * float(self.interactions[item] + 1) / self._total

    @cached_property
    def _total(self) -> int:
        return int(np.sum(self.interactions, where=self.among)) + int(np.count_nonzero(self.among))


@dataclass(frozen=True, kw_only=True, eq=False)
class Uniform(Part):
    """Chooses each of the items in ``among`` (C,) with the same probability; at least one is in it."""

    among: Bools

    def draw(self, rng: np.random.Generator) -> int:
        """Draw an item."""
        return int(rng.choice(np.flatnonzero(self.among)))

    def probability(self, item: int) -> float:
        """1 / K for each of the K items."""
        return float(self.among[item]) / int(np.count_nonzero(self.among))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A chosen item, why, and its probability under the whole policy."""

    item: int
    reason: Reason
    arm: str | None
    propensity: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """The items as a model, the arm, scores them."""

    arm: str
    scored: ScoredItems


def draw(policy: Sequence[Part], rng: np.random.Generator) -> Choice:
    """Draw an item from a policy, whose shares sum to 1."""
    part = policy[_index(np.array([part.share for part in policy]), rng)]
    item = part.draw(rng)
    propensity = sum(part.share * part.probability(item) for part in policy)
    return Choice(item=item, reason=part.reason, arm=part.arm, propensity=min(1.0, propensity))


def _index(probabilities: Floats, rng: np.random.Generator) -> int:
    if len(probabilities) == 1:
        return 0
    cumulative = probabilities.cumsum()
    drawn = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
    return min(int(drawn), len(cumulative) - 1)


def policy_of(
    rankings: Sequence[Ranking], candidates: Bools, counts: ItemCounts, settings: ExplorationSettings
) -> list[Part]:
    """The policy for a person: the best item of a model, or popular items, and exploration.

    Args:
        rankings: the models that may choose, each with the same probability. Without any, or if they know none of the
            candidates, items are drawn by popularity.
        candidates: (C,) whether an item may be chosen; at least one.
        counts: counts of the items.
        settings: how to explore.
    """
    found = [(ranking.arm, ranking.scored.best(candidates)) for ranking in rankings]
    known = [(arm, item) for arm, item in found if item is not None]
    share = 1.0 - settings.share
    parts: list[Part] = [Certain(item=item, reason="model", share=share / len(known), arm=arm) for arm, item in known]
    if not known:
        interactions = counts.interactions[: len(candidates)]
        parts.append(Popular(share=share, among=candidates.copy(), interactions=interactions, reason="popular"))
    if settings.share:
        parts.append(_exploring(candidates, counts, settings))
    return parts


def _exploring(candidates: Bools, counts: ItemCounts, settings: ExplorationSettings) -> Part:
    new = candidates & (counts.occurrences[: len(candidates)] < settings.new_below)
    among = new if new.any() else candidates.copy()
    if settings.kind == "epsilon":
        return Uniform(share=settings.share, among=among, reason="explored")
    items = np.flatnonzero(among)
    items = items[np.argsort(counts.exposures[items], kind="stable")[: settings.pool]]
    probabilities = exploration.thompson(counts.watched[items], counts.ends[items])
    return Weighted(share=settings.share, items=items, probabilities=probabilities, reason="explored")
