"""Policies: distributions over candidates, from which the next item is drawn with a known propensity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from microlens.data.interactions import Int64
from microlens.feed import exploration
from microlens.feed.exploration import Floats
from microlens.feed.item_counts import ItemCounts
from microlens.feed.served_model import Float32
from microlens.feed.settings import ExplorationSettings

Bools = npt.NDArray[np.bool_]
Reason = Literal["model", "popular", "explored", "pinned", "opened", "again"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A part of a policy: with probability ``share``, one of ``items`` (K,) by ``probabilities`` (K,) is chosen.

    ``arm`` is the model that is credited with the choice.
    """

    share: float
    items: Int64
    probabilities: Floats
    reason: Reason
    arm: str | None = None

    @classmethod
    def certain(cls, item: int, reason: Reason, *, share: float = 1.0, arm: str | None = None) -> "Part":
        """A part that always chooses the same item."""
        return cls(share=share, items=np.array([item]), probabilities=np.ones(1), reason=reason, arm=arm)

    def probability(self, item: int) -> float:
        """The probability of an item if this part of the policy chooses."""
        return float(self.probabilities[self.items == item].sum())


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A chosen item, why, and its probability under the whole policy."""

    item: int
    reason: Reason
    arm: str | None
    propensity: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """The scores (C,) that a model, the arm, gives to all items; minus infinity where it has none."""

    arm: str
    scores: Float32


def draw(policy: Sequence[Part], rng: np.random.Generator) -> Choice:
    """Draw an item from a policy, whose shares sum to 1."""
    part = policy[_index(np.array([part.share for part in policy]), rng)]
    item = int(part.items[_index(part.probabilities, rng)])
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
    found = [(ranking.arm, best_candidate(ranking.scores, candidates)) for ranking in rankings]
    known = [(arm, item) for arm, item in found if item is not None]
    share = 1.0 - settings.share
    parts = [Part.certain(item, "model", share=share / len(known), arm=arm) for arm, item in known]
    if not known:
        parts.append(_popular(candidates, counts, share))
    if settings.share:
        parts.append(_exploring(candidates, counts, settings))
    return parts


def best_candidate(scores: Float32, candidates: Bools) -> int | None:
    """The candidate with the highest score, the first of equal ones; None if no candidate has a score."""
    masked = np.where(candidates, scores, np.float32(-np.inf))
    best = int(masked.argmax())
    return best if masked[best] > -np.inf else None


def rank_of(item: int, scores: Float32) -> int:
    """The rank of an item among all with a score, from 1; equal scores are ranked by number."""
    return 1 + int(np.count_nonzero(scores > scores[item])) + int(np.count_nonzero(scores[:item] == scores[item]))


def _popular(candidates: Bools, counts: ItemCounts, share: float) -> Part:
    items = np.flatnonzero(candidates)
    probabilities = exploration.by_popularity(counts.interactions[items])
    return Part(share=share, items=items, probabilities=probabilities, reason="popular")


def _exploring(candidates: Bools, counts: ItemCounts, settings: ExplorationSettings) -> Part:
    size = len(candidates)
    seen = counts.interactions[:size] + counts.exposures[:size]
    new = np.flatnonzero(candidates & (seen < settings.new_below))
    items = new if len(new) else np.flatnonzero(candidates)
    if settings.kind == "epsilon":
        probabilities = exploration.uniform(len(items))
    else:
        items = items[np.argsort(counts.exposures[items], kind="stable")[: settings.pool]]
        probabilities = exploration.thompson(counts.watched[items], counts.ends[items])
    return Part(share=settings.share, items=items, probabilities=probabilities, reason="explored")
