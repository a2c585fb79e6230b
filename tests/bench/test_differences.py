"""Which differences of a table are tested and marked, and what is said of those that are not."""

from typing import Any

import numpy as np
import pytest

from microlens.bench.cells import ahead, seed_count
from microlens.bench.differences import Ranking, add_differences, significant, winners
from microlens.bench.page import verdict
from microlens.bench.seed_notes import interval_notes
from microlens.evaluation.metrics import METRICS, all_metrics
from microlens.evaluation.significance import LEVEL, difference, holm

USERS = np.arange(400)


def ranking(seeds: int, hits: float, *, depends_on_seed: bool = True) -> Ranking:
    """A row that finds a share of the targets; users who are found by a better row include those of a worse one."""
    lucky = np.random.default_rng(0).random(len(USERS))
    random = np.random.default_rng(seeds)
    ranks = [np.where(lucky < hits + random.normal(0, 0.01), 1 + USERS % 9, 50) for _ in range(seeds)]
    return Ranking(protocol="p", ranks=ranks, users=USERS, depends_on_seed=depends_on_seed)


RANKINGS = {
    "closed form": ranking(1, 0.30, depends_on_seed=False),
    "better": ranking(3, 0.40),
    "equal": ranking(4, 0.30),
    "two": ranking(2, 0.50),
    "one": ranking(1, 0.60),
}


def rows_of(rankings: dict[str, Ranking]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "protocol": "p",
            "seeds": list(range(len(of_row.ranks))),
            "depends_on_seed": of_row.depends_on_seed,
            "deviation": {"HR@10": 0.01} if len(of_row.ranks) > 1 else None,
            "test": {"all": {"HR@10": float(np.mean([all_metrics(ranks)["HR@10"] for ranks in of_row.ranks]))}},
            "cost": {"seconds": 1.0},
            "difference": None,
        }
        for name, of_row in rankings.items()
    ]


def compared(reference: str, rankings: dict[str, Ranking] = RANKINGS) -> dict[str, dict[str, Any]]:
    rows = rows_of(rankings)
    add_differences(rows, dict.fromkeys(rankings, reference), rankings)
    return {row["name"]: row for row in rows}


def test_rows_with_a_seed_or_two_are_shown_and_not_tested() -> None:
    rows = compared("closed form")
    assert rows["closed form"]["difference"] is None
    tested = {name: row["difference"]["tested"] for name, row in rows.items() if row["difference"]}
    assert tested == {"better": True, "equal": True, "two": False, "one": False}
    stars = {name: ahead("HR@10")(row).endswith("*") for name, row in rows.items()}
    assert stars == {"closed form": False, "better": True, "equal": False, "two": False, "one": False}
    assert rows["one"]["difference"]["HR@10"]["p"] is None
    assert rows["one"]["difference"]["HR@10"]["low"] > 0
    cells = [seed_count(row) for row in rows.values()]
    assert cells == ["deterministic", "3 (1.00)", "4 (1.00)", "2 (1.00)", "1, users only"]


def test_the_correction_is_for_the_rows_that_are_tested() -> None:
    rows = compared("closed form")
    for metric in METRICS:
        raw = [
            difference(RANKINGS[name].ranks, RANKINGS["closed form"].ranks, metric)["p"] for name in ("better", "equal")
        ]
        assert [rows[name]["difference"][metric]["holm"] for name in ("better", "equal")] == holm(raw)


@pytest.mark.parametrize("reference", ["one", "two"])
def test_nothing_is_tested_against_a_row_with_a_seed_or_two(reference: str) -> None:
    rows = compared(reference)
    assert not any(row["difference"]["tested"] for name, row in rows.items() if name != reference)
    notes = " ".join(interval_notes({"rows": list(rows.values())}))
    seeds = {"one": "1 seed", "two": "2 seeds"}[reference]
    assert f"Nothing is tested against {reference}, which has {seeds} of the 3 that a test needs." in notes


def test_a_star_needs_an_interval_without_zero() -> None:
    found = {"tested": True, "HR@10": {"mean": 0.1, "low": 0.05, "high": 0.15, "p": 0.001, "holm": 0.01}}
    assert significant(found, "HR@10")
    assert not significant({**found, "HR@10": {**found["HR@10"], "low": -0.01}}, "HR@10")
    assert not significant({**found, "HR@10": {**found["HR@10"], "holm": LEVEL}}, "HR@10")
    assert not significant({**found, "tested": False}, "HR@10")
    assert not significant({"HR@10": found["HR@10"]}, "HR@10")  # of the first versions


def test_the_notes_say_what_the_intervals_are_over() -> None:
    rows = compared("closed form")
    notes = " ".join(interval_notes({"rows": list(rows.values())}))
    assert "intervals over users and seeds" in notes
    assert "Rows with one seed: intervals over users only" in notes
    assert "Rows with fewer than 3 seeds are not tested" in notes
    assert "Nothing is tested against" not in notes
    enough = [row for name, row in rows.items() if name not in ("one", "two")]
    assert "not tested" not in " ".join(interval_notes({"rows": enough}))
    del rows["better"]["depends_on_seed"]
    (old,) = interval_notes({"rows": list(rows.values())})
    assert "by an earlier version" in old


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("closed form", "better"), "<b>better</b> wins"),
        (("closed form", "equal"), "which is not significant"),
        (
            ("better", "one"),
            "not tested, because one (1) would need 3 seeds",
        ),
        (
            ("two", "one"),
            "not tested, because one (1) and two (2) would need 3 seeds",
        ),
    ],
)
def test_the_verdict_calls_nothing_significant_that_is_not_tested(names: tuple[str, str], said: str) -> None:
    rankings = {name: RANKINGS[name] for name in names}
    rows = list(compared(names[0], rankings).values())
    results = {"rows": rows, "winners": winners(rows, rankings), "protocols": {"p": {"split": "leave-one-out"}}}
    text = verdict(results)
    assert said in text
    assert ("a significant difference" in text) == ("wins" in text)
