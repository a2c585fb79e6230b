"""What people did with the items of each model of a feed, and whether one model does better than another."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from microlens.errors import InputError
from microlens.evaluation.beyond_accuracy import gini
from microlens.evaluation.significance import Estimate, estimate, holm, unpaired
from microlens.feed.database import Read, Row, reading
from microlens.feed.person import Feedback
from microlens.feed.schema import EVENTS, EXPOSURES, PARTICIPANTS

Floats = npt.NDArray[np.float64]
FEWEST_PEOPLE = 2

METRICS = ("watched", "liked", "skipped")
"""What is compared, as means over the exposures of a person: the share of the video that was watched, whether it was
liked, and whether less than a third was watched."""

_SKIPPED_BELOW = 1 / 3


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over people with its 95 % interval, None for a single person or if nothing varies."""

    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, found: Estimate) -> "Mean":
        """The mean of an estimate."""
        low, high = found.interval if np.isfinite(found.freedom) else (None, None)
        return cls(mean=found.mean, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What people did with the items that one model chose.

    Attributes:
        name: the arm: the run folder that was served.
        models: number of exposures of each model that served in it.
        people: number of people.
        exposures: number of items shown.
        means: each of :data:`METRICS`.
        coverage: the share of all items shown by any arm that this arm has shown.
        gini: Gini index of how often it has shown each of these items.
        start_ms: median and 95th percentile of the time from the impression to the start of the video; None if nothing
            was started.
    """

    name: str
    models: dict[str, int]
    people: int
    exposures: int
    means: dict[str, Mean]
    coverage: float
    gini: float
    start_ms: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The difference of two arms in a metric, first minus second, with its 95 % interval.

    ``p`` is two-sided, ``holm`` corrected for all pairs of arms. ``paired`` says that the same people saw both.
    """

    first: str
    second: str
    metric: str
    mean: float
    low: float
    high: float
    p: float
    holm: float
    paired: bool


@dataclass(frozen=True, kw_only=True)
class FeedReport:
    """The arms of a feed, and the differences between them; arms with fewer than two people are not compared."""

    interleaved: bool
    arms: list[Arm]
    differences: list[Difference]


def report_feed(events: str, study: str | None = None) -> FeedReport:
    """Compare the models of a feed on the people who used it.

    An exposure counts if a model has chosen it, not exploration, a pin or a link, and if the person has seen it. With
    one model for each person (A/B) the means over people of two arms are compared, by Welch's test; with interleaving
    and in a study every person has seen items of all, and the differences within people are, by a paired test. People
    are the unit either way, since exposures of the same person are alike.

    Args:
        events: the event store, ``sqlite:///PATH`` or ``postgresql://...``; a server may use it meanwhile.
        study: name of a study whose participants alone are counted.

    Raises:
        InputError: the store cannot be read, or holds no exposure that a model has chosen and a person has seen.
    """
    with reading(events) as read:
        seen = _seen(read, study)
    if not seen:
        raise InputError(f"{events} holds nothing that a model has chosen and a person has seen.")
    names = sorted({one.arm for one in seen})
    arms_of = Counter(person for person, _ in {(one.person, one.arm) for one in seen})
    interleaved = 2 * sum(arms > 1 for arms in arms_of.values()) > len(arms_of)
    values = {name: _of_people([one for one in seen if one.arm == name]) for name in names}
    items = sorted({one.item for one in seen})
    return FeedReport(
        interleaved=interleaved,
        arms=[_arm(name, [one for one in seen if one.arm == name], values[name], items) for name in names],
        differences=differences(values, paired=interleaved),
    )


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """An exposure that a person has seen, and what became of it."""

    person: str
    arm: str
    model: str
    item: str
    values: tuple[float, ...]
    start_ms: float | None


def _seen(read: Read, study: str | None) -> list[_Seen]:
    wanted = select(EXPOSURES).where(EXPOSURES.c.reason == "model", EXPOSURES.c.arm.is_not(None))
    if study is not None:
        participants = select(PARTICIPANTS.c.person).where(PARTICIPANTS.c.study == study)
        wanted = wanted.where(EXPOSURES.c.person.in_(participants))
    chosen = read(wanted)
    events: dict[tuple[str, int], list[Row]] = {}
    for event in read(select(EVENTS).order_by(EVENTS.c.number)):
        events.setdefault((event["request_id"], event["position"]), []).append(event)
    found = ((row, events.get((row["request_id"], row["position"]))) for row in chosen)
    return [_outcome(row, own) for row, own in found if own]


def _outcome(exposure: Row, events: list[Row]) -> _Seen:
    feedback, moments = Feedback(), dict[str, int]()
    for event in events:
        feedback.note(event)
        moments.setdefault(event["kind"], event["at"])
    started = "impression" in moments and "start" in moments
    return _Seen(
        person=exposure["person"],
        arm=exposure["arm"],
        model=exposure["model"],
        item=exposure["item"],
        values=metrics_of(feedback),
        start_ms=max(0.0, float(moments["start"] - moments["impression"])) if started else None,
    )


def metrics_of(feedback: Feedback) -> tuple[float, ...]:
    """The metrics of one exposure, (M,)."""
    return feedback.watched, float(feedback.liked), float(feedback.watched < _SKIPPED_BELOW)


def _of_people(seen: Sequence[_Seen]) -> dict[str, Floats]:
    """For each person the means of the metrics (M,)."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for one in seen:
        found.setdefault(one.person, []).append(one.values)
    return {person: np.mean(values, axis=0) for person, values in found.items()}


def _arm(name: str, seen: Sequence[_Seen], of_people: dict[str, Floats], items: Sequence[str]) -> Arm:
    values = np.array(list(of_people.values()))
    shown = Counter(one.item for one in seen)
    starts = [one.start_ms for one in seen if one.start_ms is not None]
    return Arm(
        name=name,
        models=dict(Counter(one.model for one in seen)),
        people=len(of_people),
        exposures=len(seen),
        means={metric: Mean.of(estimate(values[None, :, index])) for index, metric in enumerate(METRICS)},
        coverage=len(shown) / len(items),
        gini=gini(np.array([shown[item] for item in items])),
        start_ms=(float(np.median(starts)), float(np.quantile(starts, 0.95))) if starts else None,
    )


def differences(values: dict[str, dict[str, Floats]], *, paired: bool) -> list[Difference]:
    """The differences of all pairs of arms in all metrics.

    Args:
        values: for each arm and person the means of the metrics (M,).
        paired: whether to compare the two arms within people.
    """
    found: list[Difference] = []
    for index, metric in enumerate(METRICS):
        estimates = {
            pair: _difference(values[pair[0]], values[pair[1]], index, paired=paired)
            for pair in combinations(values, 2)
        }
        tested = {pair: one for pair, one in estimates.items() if one is not None}
        corrected = holm([one.p for one in tested.values()])
        for ((first, second), one), p in zip(tested.items(), corrected, strict=True):
            low, high = one.interval
            found.append(
                Difference(
                    first=first, second=second, metric=metric, mean=one.mean, low=low, high=high, p=one.p, holm=p,
                    paired=paired,
                )
            )  # fmt: skip
    return found


def _difference(first: dict[str, Floats], second: dict[str, Floats], index: int, *, paired: bool) -> Estimate | None:
    """The difference in the metric at an index; None with too few people."""
    if paired:
        both = [person for person in first if person in second]
        if len(both) < FEWEST_PEOPLE:
            return None
        ours, theirs = (np.array([[of[person][index] for person in both]]) for of in (first, second))
        return estimate(ours, theirs)
    if min(len(first), len(second)) < FEWEST_PEOPLE:
        return None
    ours, theirs = (np.array([[values[index] for values in of.values()]]) for of in (first, second))
    return unpaired(estimate(ours), estimate(theirs))
