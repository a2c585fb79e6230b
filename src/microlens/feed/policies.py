"""Policies: distributions over candidates, from which the next item is drawn with a known propensity."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from microlens.data.interactions import Int32, Int64
from microlens.feed import exploration
from microlens.feed.candidates import Candidates, Remaining
from microlens.feed.exploration import Floats
from microlens.feed.item_counts import ItemCounts
from microlens.feed.scored_items import ScoredItems
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

    items: Int32
    probabilities: Floats

    def draw(self, rng: np.random.Generator) -> int:
        """Draw an item."""
        return int(self.items[_index(self.probabilities, rng)])

    def probability(self, item: int) -> float:
        """The probability of an item, 0 for those that are not among the items."""
        return float(self.probabilities[self.items == item].sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class Popular(Part):
    """Chooses each candidate in proportion to its interactions plus one."""

    among: Candidates

    def draw(self, rng: np.random.Generator) -> int:
        """Draw an item."""
        return self.among.popular(rng)

    def probability(self, item: int) -> float:
        """The probability of an item, 0 for those that are no candidates."""
        return self.among.popularity(item)


@dataclass(frozen=True, kw_only=True, eq=False)
class Uniform(Part):
    """Chooses each of the items in ``among`` with the same probability; at least one is in it."""

    among: Remaining

    def draw(self, rng: np.random.Generator) -> int:
        """Draw an item."""
        return self.among[int(rng.integers(len(self.among)))]

    def probability(self, item: int) -> float:
        """1 / K for each of the K items."""
        return (item in self.among) / len(self.among)


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
    rankings: Sequence[Ranking], candidates: Candidates, counts: ItemCounts, settings: ExplorationSettings
) -> list[Part]:
    """The policy for a person: the best item of a model, or popular items, and exploration.

    Args:
        rankings: the models that may choose, each with the same probability. Without any, or if they know none of the
            candidates, items are drawn by popularity.
        candidates: the items that may be chosen; at least one.
        counts: their counts.
        settings: how to explore.
    """
    found = [(ranking.arm, ranking.scored.best(candidates)) for ranking in rankings]
    known = [(arm, item) for arm, item in found if item is not None]
    share = 1.0 - settings.share
    parts: list[Part] = [Certain(item=item, reason="model", share=share / len(known), arm=arm) for arm, item in known]
    if not known:
        parts.append(Popular(share=share, among=candidates, reason="popular"))
    if settings.share:
        parts.append(_exploring(candidates, counts, settings))
    return parts


def _exploring(candidates: Candidates, counts: ItemCounts, settings: ExplorationSettings) -> Part:
    among = candidates.new if len(candidates.new) else candidates.all
    if settings.kind == "epsilon":
        return Uniform(share=settings.share, among=among, reason="explored")
    items = among.array()
    items = items[_lowest(counts.exposures[items], settings.pool)]
    probabilities = exploration.thompson(counts.watched[items], counts.ends[items])
    return Weighted(share=settings.share, items=items, probabilities=probabilities, reason="explored")


def _lowest(counts: Int32, k: int) -> Int64:
    """The places of the ``k`` lowest of some counts (K,), ascending; the first ones of equal counts."""
    if len(counts) > k:
        edge = np.partition(counts, k - 1)[k - 1]
        below = np.flatnonzero(counts < edge)
        found = np.concatenate([below, np.flatnonzero(counts == edge)[: k - len(below)]])
    else:
        found = np.arange(len(counts))
    return found[np.argsort(counts[found], kind="stable")]
