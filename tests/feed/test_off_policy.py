"""Off-policy estimates: unbiased where the truth is known, and the decisions that they are made of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microlens
from microlens.errors import InputError
from microlens.feed.database import reading
from microlens.feed.decisions import Decision, read_decisions
from microlens.feed.off_policy import PolicyEstimate, weigh
from microlens.feed.policies import Part, draw, policy_of
from microlens.feed.run_policy import RunPolicy
from microlens.feed.settings import ExplorationSettings, FeedSettings
from tests.feed.conftest import ITEMS, OpenFeed, Visitor, event_of
from tests.feed.records import LIKED, SKIPPED, WATCHED, Records, did
from tests.feed.test_policies import Counts, candidates_of, dense, ranking

REPETITIONS, PEOPLE, DECISIONS, SIZE = 200, 18, 4, 7
Serve = Callable[..., Any]


class Logs:
    """Logs of people of three kinds, who like each of some items with a known probability; item 0 is no item."""

    def __init__(self, kind: str, share: float) -> None:
        self._rng = np.random.default_rng(1)
        candidates = np.arange(SIZE) > 0
        explore = ExplorationSettings.model_validate({"kind": kind, "share": share, "new_below": 0})
        self.likings = self._rng.random((3, SIZE))
        self.logged, self.wanted = list[list[Part]](), list[np.ndarray]()
        for _ in range(3):
            ours, theirs = (ranking(arm, self._rng.random(SIZE).astype(np.float32)) for arm in "ab")
            counts = Counts(self._rng, SIZE, new_below=0)
            counts.ends = np.minimum(counts.ends, 2)  # so that no item has hardly any chance
            counts.watched = counts.ends * self._rng.random(SIZE)
            self.logged.append(policy_of([ours], candidates_of(candidates, counts), counts, explore))
            wanted = ExplorationSettings(share=0.2, new_below=0)
            other = policy_of([ours, theirs], candidates_of(candidates, counts), counts, wanted)
            self.wanted.append(dense(other, SIZE))

    @property
    def truth(self) -> float:
        """The value of the wanted policy, over all kinds of people and all items."""
        return float(np.mean([wanted @ liking for wanted, liking in zip(self.wanted, self.likings, strict=True)]))

    @property
    def supported(self) -> float:
        """The share of the choices of the wanted policy that the logged one can make."""
        pairs = zip(self.wanted, self.logged, strict=True)
        return float(np.mean([wanted[dense(logged, SIZE) > 0].sum() for wanted, logged in pairs]))

    def estimate(
        self, propensity: Callable[[float], float] = lambda recorded: recorded, crowd: int = PEOPLE
    ) -> PolicyEstimate:
        """The estimate from one log; ``propensity`` changes those that are recorded."""
        people, weights, outcomes = [], [], []
        for person in range(crowd):
            for _ in range(DECISIONS):
                choice = draw(self.logged[person % 3], self._rng)
                people.append(f"{person}")
                weights.append(self.wanted[person % 3][choice.item] / propensity(choice.propensity))
                outcomes.append(float(self._rng.random() < self.likings[person % 3][choice.item]))
        return weigh(people, np.array(weights), np.repeat(np.array(outcomes)[:, None], 3, axis=1))


def off_by(found: list[float], truth: float) -> float:
    """The difference of a mean from the truth, in standard errors."""
    return float(abs(np.mean(found) - truth) / (np.std(found, ddof=1) / len(found) ** 0.5))


@pytest.mark.parametrize("kind", ["epsilon", "thompson"])
def test_estimates_of_another_policy_are_unbiased_and_their_intervals_cover_it(kind: str) -> None:
    logs = Logs(kind, share=0.5)
    found = [logs.estimate() for _ in range(REPETITIONS)]
    ips, normalised = (
        [of(one.values["liked"]) for one in found] for of in (lambda v: v.ips, lambda v: v.self_normalised)
    )
    assert off_by([one.mean for one in ips], logs.truth) < 3
    assert off_by([one.covered.mean for one in found], 1.0) < 3
    assert np.std([one.mean for one in normalised]) < np.std([one.mean for one in ips])
    many = logs.estimate(crowd=40 * PEOPLE).values["liked"].self_normalised
    assert many.low < logs.truth < many.high
    for estimates in (ips, normalised) if kind == "epsilon" else ():  # the others have effective sizes of 20
        assert 0.88 < np.mean([one.low < logs.truth < one.high for one in estimates]) < 0.99


def test_a_wrong_propensity_of_the_best_item_is_seen() -> None:
    logs = Logs("epsilon", share=0.8)
    forgetful = [logs.estimate(lambda p: 0.2 if p > 0.2 else p) for _ in range(REPETITIONS)]
    assert off_by([one.values["liked"].ips.mean for one in forgetful], logs.truth) > 3
    assert off_by([one.covered.mean for one in forgetful], 1.0) > 3


def test_what_the_feed_gave_no_chance_is_told() -> None:
    logs = Logs("epsilon", share=0.0)
    assert 0.05 < logs.supported < 0.9
    found = [logs.estimate() for _ in range(REPETITIONS)]
    assert np.mean([one.covered.mean for one in found]) == pytest.approx(logs.supported)


def test_the_effective_sample_size_and_weights_of_zero() -> None:
    outcomes = np.ones((3, 3))
    assert weigh(["a", "a", "b"], np.array([2.0, 1.0, 1.0]), outcomes).effective == pytest.approx(16 / 6)
    nothing = weigh(["a", "a", "b"], np.zeros(3), outcomes)
    assert (nothing.effective, nothing.values["liked"].self_normalised, nothing.covered.mean) == (0, None, 0)


def test_a_decision_knows_what_was_known_when_it_was_made(records: Records, store_url: str) -> None:
    records.show("ann", "4", LIKED, second=0)
    records.show("ann", "7", SKIPPED, second=1, why="explored")
    records.show("ann", "5", WATCHED, second=2, why="pinned")
    records.show("ann", "9", WATCHED, second=2, why="popular")
    records.show("ann", "2", second=4)
    records.show("ann", "3", did("impression"), second=4)
    with reading(store_url) as read:
        found = list(read_decisions(read, FeedSettings().feedback))
    assert [(one.item, one.history, one.shown, one.outcome.liked) for one in found] == [
        ("4", (), (), True),
        ("7", ("4",), ("4",), False),
        ("9", ("4",), ("4", "7", "5"), False),
        ("3", ("4", "5", "9"), ("4", "7", "5", "9", "2"), False),
    ]


def test_the_policy_that_served_gets_what_it_got(records: Records, store_url: str) -> None:
    for person, outcomes in (("ann", (LIKED, SKIPPED)), ("bob", (WATCHED,)), ("eve", (SKIPPED,))):
        for item, outcome in enumerate(outcomes):
            records.show(person, f"{item}", outcome)
    found = microlens.estimate_policy(store_url, lambda decision: decision.propensity)
    assert (found.people, found.decisions, found.effective, found.covered.mean) == (3, 4, pytest.approx(4), 1)
    value = found.values["watched"]
    assert value.logged.mean == pytest.approx(np.mean([(0 + 0.25) / 2, 1, 0.25]))
    assert value.logged == value.ips
    with pytest.raises(InputError, match=r"gives item 0 the probability 1\.5"):
        microlens.estimate_policy(store_url, lambda _: 1.5)


def test_a_store_without_decisions_is_refused(records: Records, store_url: str) -> None:
    records.show("ann", "1", LIKED, why="pinned")
    with pytest.raises(InputError, match="nothing that a policy has drawn"):
        microlens.estimate_policy(store_url, lambda _: 1.0)


def test_a_run_chooses_as_the_feed_does(world: Path, tmp_path: Path, open_world: OpenFeed, serve: Serve) -> None:
    url = f"sqlite:///{tmp_path}/events.sqlite"
    client = serve(open_world("id", settings={"exploration": {"share": 0.4, "new_below": 0}}, events=url))
    for _ in range(3):
        client.cookies.clear()
        visitor = Visitor(client)
        for number in range(5):
            for exposure in visitor.next(2):
                visitor.send(event_of(exposure, "impression"), event_of(exposure, "like" if number % 2 else "start"))
    client.__exit__(None, None, None)
    policy = RunPolicy(world / "id", None, FeedSettings())
    decisions: list[Decision] = []
    with reading(url) as read:
        decisions.extend(read_decisions(read, FeedSettings().feedback))
    assert {decision.reason for decision in decisions} == {"model", "popular", "explored"}
    for decision in decisions:
        left = ITEMS - len(decision.shown)
        assert decision.propensity == pytest.approx(0.6 * policy(decision) + 0.4 / left)
    found = microlens.estimate_run(url, world / "id")
    assert (found.people, found.decisions) == (3, 30)
    assert found == microlens.estimate_policy(url, policy)
