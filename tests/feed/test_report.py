"""Comparisons of models on people."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import microlens
from microlens.errors import InputError
from microlens.feed.charts import draw_arms
from microlens.feed.report import METRICS, FeedReport, differences
from tests.feed.records import LIKED, SKIPPED, WATCHED, Records, did

REPETITIONS = 200
SEEN = did("impression")
OUTCOMES = {"watched": (WATCHED,), "liked": (WATCHED, LIKED), "skipped": (SKIPPED,)}
SHARES = {"watched": 1.0, "liked": 1.0, "skipped": 0.25}
OF_PEOPLE = {
    "a": (["watched", "liked"], ["skipped", "watched"], ["liked", "liked"]),
    "b": (["skipped", "skipped"], ["watched", "skipped"], ["skipped", "liked", "skipped"]),
}


def fill(records: Records, person: Callable[[str, int], str]) -> None:
    for arm, people in OF_PEOPLE.items():
        for number, outcomes in enumerate(people):
            for item, outcome in enumerate(outcomes):
                records.show(person(arm, number), f"{item}", *OUTCOMES[outcome], arm=arm)


def watched_means(arm: str) -> list[float]:
    return [float(np.mean([SHARES[outcome] for outcome in outcomes])) for outcomes in OF_PEOPLE[arm]]


def one(report: FeedReport, metric: str) -> microlens.feed.report.Difference:
    (found,) = (found for found in report.differences if found.metric == metric)
    return found


def test_arms_of_different_people_are_compared_by_welchs_test(records: Records, store_url: str) -> None:
    fill(records, lambda arm, number: f"{arm}{number}")
    report = microlens.report_feed(store_url)
    assert not report.interleaved
    first, second = report.arms
    assert (first.name, first.people, first.exposures, first.models) == ("a", 3, 6, {"a@1": 6})
    assert (second.coverage, first.coverage) == (1.0, 2 / 3)
    assert first.means["watched"].mean == pytest.approx(np.mean(watched_means("a")))
    assert first.means["skipped"].mean == pytest.approx(np.mean([0, 0.5, 0]))
    assert first.means["liked"].mean == pytest.approx(np.mean([0.5, 0, 1]))
    found, expected = one(report, "watched"), stats.ttest_ind(watched_means("a"), watched_means("b"), equal_var=False)
    assert (found.p, found.paired) == (pytest.approx(expected.pvalue), False)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_interleaved_arms_are_compared_within_people(records: Records, store_url: str) -> None:
    fill(records, lambda _, number: f"{number}")
    report = microlens.report_feed(store_url)
    assert report.interleaved
    found, expected = one(report, "watched"), stats.ttest_rel(watched_means("a"), watched_means("b"))
    assert (found.p, found.paired) == (pytest.approx(expected.pvalue), True)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_only_what_a_model_chose_and_a_person_saw_counts(records: Records, store_url: str) -> None:
    records.show("ann", "1", SEEN, did("start", at=1_000_250), WATCHED)
    records.show("ann", "2", SEEN, WATCHED, why="explored")
    records.show("ann", "3", SEEN, WATCHED, why="pinned")
    records.show("ann", "4")
    records.show("ann", "5", SEEN, WATCHED, arm=None)
    (arm,) = microlens.report_feed(store_url).arms
    assert (arm.exposures, arm.coverage, arm.start_ms) == (1, 1.0, (250.0, 250.0))
    assert arm.means["watched"].low is None


def test_a_store_without_people_is_refused(records: Records, store_url: str) -> None:
    records.show("ann", "1")
    with pytest.raises(InputError, match="holds nothing that a model has chosen and a person has seen"):
        microlens.report_feed(store_url)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("planted", "least", "most"), [(0.0, 0.01, 0.1), (0.15, 0.9, 1.0)])
def test_a_planted_difference_is_found_and_none_between_a_model_and_itself(
    paired: bool, planted: float, least: float, most: float
) -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(REPETITIONS):
        values = {
            arm: {
                f"{number}" if paired else f"{arm}{number}": rng.beta(2, 2, (20, len(METRICS))).mean(0) + shift
                for number in range(30)
            }
            for arm, shift in (("a", planted), ("b", 0.0))
        }
        found.append(differences(values, paired=paired)[0].p < 0.05)
    assert least <= np.mean(found) <= most


def test_p_values_are_corrected_for_all_pairs() -> None:
    rng = np.random.default_rng(1)
    values = {arm: {f"{arm}{number}": rng.random(len(METRICS)) for number in range(9)} for arm in "abc"}
    pairs = [found for found in differences(values, paired=False) if found.metric == "liked"]
    assert len(pairs) == 3
    assert min(found.holm for found in pairs) == pytest.approx(min(1.0, 3 * min(found.p for found in pairs)))


def test_the_chart_is_a_picture(records: Records, store_url: str, tmp_path: Path) -> None:
    fill(records, lambda arm, number: f"{arm}{number}")
    draw_arms(microlens.report_feed(store_url), tmp_path / "charts/arms.png")
    assert (tmp_path / "charts/arms.png").read_bytes().startswith(b"\x89PNG")
