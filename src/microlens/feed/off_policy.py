"""Off-policy estimates: what another policy would have got from the people of a feed, by the recorded propensities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

from microlens.data.interactions import Int64
from microlens.errors import InputError
from microlens.evaluation.significance import estimate
from microlens.feed.database import Read, reading
from microlens.feed.decisions import Decision, read_decisions
from microlens.feed.report import METRICS, Floats, Mean, metrics_of
from microlens.feed.run_policy import RunPolicy
from microlens.feed.schema import EXPOSURES, RULES
from microlens.feed.settings import FeedbackSettings, FeedSettings
from microlens.files.progress_bar import OnProgress

ENOUGH = 150
"""The effective sample size below which intervals are too short; with 20 to 45, 95 % intervals cover 64 to 81 %."""

Policy = Callable[[Decision], float]
"""The probability with which a policy would have chosen the item of a decision, given what was known of the person."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """The mean of a metric over people.

    Attributes:
        logged: under the policies that served.
        ips: under the other policy, by inverse propensity scoring.
        self_normalised: the same, divided by the mean weight; None if that is 0.
    """

    logged: Mean
    ips: Mean
    self_normalised: Mean | None


@dataclass(frozen=True, kw_only=True)
class PolicyEstimate:
    """What a policy would have got.

    Attributes:
        people: number of people.
        decisions: number of exposures that were drawn and seen.
        effective: effective sample size, the square of the sum of the weights by the sum of their squares: as many
            decisions of the policy itself would tell as much. Below :data:`ENOUGH` intervals are too short.
        covered: the mean weight, which estimates the share of the policy's choices to which the feed gave a chance; of
            the rest nothing is known.
        values: each of :data:`microlens.feed.report.METRICS`.
    """

    people: int
    decisions: int
    effective: float
    covered: Mean
    values: dict[str, Value]


def estimate_policy(
    events: str, policy: Policy, *, settings: FeedSettings | None = None, on_progress: OnProgress | None = None
) -> PolicyEstimate:
    """Estimate what a policy would have got, had it made each decision of a feed.

    A decision with the probability q under the policy and the recorded propensity p has the weight q / p. The mean of
    weighted outcomes is unbiased if the feed gave a chance to every item that the policy may choose (inverse propensity
    scoring); divided by the mean weight it is slightly biased and varies less (self-normalised). Each decision is
    judged by itself, after what the feed itself has shown before: how people would have gone on is not part of it.

    Args:
        events: the event store, ``sqlite:///PATH`` or ``postgresql://...``; a server may use it meanwhile.
        policy: the probability of the item that was chosen, for each decision.
        settings: settings of the feed, by which items are positive and belong to the history.
        on_progress: called with (done, total) exposures.

    Raises:
        InputError: the store cannot be read or holds no decision, or the policy returns no probability.

    Sources: Horvitz and Thompson, A generalization of sampling without replacement from a finite universe (JASA 1952);
    Swaminathan and Joachims, The self-normalized estimator for counterfactual learning (NeurIPS 2015).
    """
    with reading(events) as read:
        return _estimate(read, policy, (settings or FeedSettings()).feedback, on_progress)


def estimate_run(
    events: str,
    run: str | Path,
    *,
    dataset: str | Path | None = None,
    settings: FeedSettings | None = None,
    on_progress: OnProgress | None = None,
) -> PolicyEstimate:
    """Estimate what a run would have got, served without exploration; see :func:`estimate_policy`.

    The run chooses as the feed does: its best item that has not been shown, popular items for a person without history.
    Items that the operator has taken down by now are no candidates, nor are uploads.

    Args:
        events: the event store.
        run: the run folder.
        dataset: folder of the run's dataset, if that was moved.
        settings: settings of the feed.
        on_progress: called with (done, total) exposures.

    Raises:
        InputError: the run cannot be served, or the store cannot be read or holds no decision.
    """
    settings = settings or FeedSettings()
    policy = RunPolicy(Path(run), None if dataset is None else Path(dataset), settings)
    with reading(events) as read:
        policy.apply_rules(read(select(RULES)))
        return _estimate(read, policy, settings.feedback, on_progress)


def _estimate(read: Read, policy: Policy, settings: FeedbackSettings, on_progress: OnProgress | None) -> PolicyEstimate:
    total = read(select(func.count().label("count")).select_from(EXPOSURES))[0]["count"]
    people, weights, outcomes = list[str](), list[float](), list[tuple[float, ...]]()
    for decision in read_decisions(read, settings):
        people.append(decision.person)
        weights.append(_probability(policy, decision) / decision.propensity)
        outcomes.append(metrics_of(decision.outcome))
        if on_progress is not None:
            on_progress(len(people), total)
    if on_progress is not None:
        on_progress(total, total)  # what nobody saw, or no policy drew, is none
    if not people:
        raise InputError("the event store holds nothing that a policy has drawn and a person has seen.")
    return weigh(people, np.array(weights), np.array(outcomes))


def _probability(policy: Policy, decision: Decision) -> float:
    found = policy(decision)
    if not 0 <= found <= 1:
        raise InputError(f"the policy gives item {decision.item} the probability {found}; accepted is 0 to 1.")
    return found


def weigh(people: Sequence[str], weights: Floats, outcomes: Floats) -> PolicyEstimate:
    """The estimate from weighted outcomes.

    Means are taken over people, of the means over the decisions of each. The interval of the self-normalised mean is
    that of its linear approximation.

    Args:
        people: the person of each of E decisions.
        weights: (E,) probability under the policy by propensity.
        outcomes: (E, M) the metrics.
    """
    _, index = np.unique(np.asarray(people), return_inverse=True)
    weight, weighted, logged = (
        _means(index, values) for values in (weights[:, None], weights[:, None] * outcomes, outcomes)
    )
    squares = float((weights**2).sum())
    return PolicyEstimate(
        people=len(weight),
        decisions=len(weights),
        effective=float(weights.sum()) ** 2 / squares if squares else 0.0,
        covered=_mean(weight[:, 0]),
        values={
            metric: Value(
                logged=_mean(logged[:, column]),
                ips=_mean(weighted[:, column]),
                self_normalised=_ratio(weighted[:, column], weight[:, 0]),
            )
            for column, metric in enumerate(METRICS)
        },
    )


def _means(index: Int64, values: Floats) -> Floats:
    """The means (P, M) over the decisions of each person, from values (E, M)."""
    sums = np.zeros((index.max() + 1, values.shape[1]))
    np.add.at(sums, index, values)
    return sums / np.bincount(index)[:, None]


def _mean(of_people: Floats) -> Mean:
    return Mean.of(estimate(of_people[None]))


def _ratio(weighted: Floats, weight: Floats) -> Mean | None:
    if not weight.any():
        return None
    ratio = weighted.mean() / weight.mean()
    return _mean(ratio + (weighted - ratio * weight) / weight.mean())
