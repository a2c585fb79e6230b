"""Differences between the rows of a table on the same users, and which row is best."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from microlens.data.interactions import Int64
from microlens.evaluation.metrics import METRICS
from microlens.evaluation.significance import LEVEL, difference, enough_seeds, holm


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """A row's protocol hash, the test ranks (Q,) of each seed, and the user (Q,) of each target."""

    protocol: str
    ranks: list[Int64]
    users: Int64
    depends_on_seed: bool

    @property
    def testable(self) -> bool:
        """True if there are enough seeds for a test."""
        return enough_seeds(len(self.ranks), self.depends_on_seed)

    def ahead_of(self, other: "Ranking") -> dict[str, Any]:
        """The difference from another row of the same protocol, by metric; "p" is None unless both are testable."""
        tested = self.testable and other.testable
        found: dict[str, Any] = {"tested": tested}
        for metric in METRICS:
            found[metric] = difference(self.ranks, other.ranks, metric, self.users)
            if not tested:
                found[metric]["p"] = None
        return found


def significant(found: Mapping[str, Any], metric: str, p: str = "holm") -> bool:
    """True if a difference was tested, ``p`` is below 5 %, and its interval excludes 0.

    Args:
        found: a difference of a table's JSON.
        metric: name of the metric.
        p: "holm" for the p-value that is corrected for all rows of the table, "p" for that of one test.
    """
    if not found.get("tested"):  # missing in the JSON of the first versions, which tested users alone
        return False
    of_metric = found[metric]
    return of_metric[p] < LEVEL and not of_metric["low"] <= 0 <= of_metric["high"]


def add_differences(rows: list[dict[str, Any]], against: Mapping[str, str], rankings: Mapping[str, Ranking]) -> None:
    """Compare each row with its reference, and apply Holm's correction to the p-values of a metric in tested rows.

    A row whose reference is missing or follows another protocol is not compared.
    """
    tested = []
    for row in rows:
        ours, theirs = rankings[row["name"]], rankings.get(against[row["name"]])
        if theirs is not None and theirs is not ours and theirs.protocol == ours.protocol:
            row["difference"] = {"against": against[row["name"]], **ours.ahead_of(theirs)}
            tested += [row["difference"]] if row["difference"]["tested"] else []
    for metric in METRICS:
        corrected = holm([found[metric]["p"] for found in tested])
        for found, p in zip(tested, corrected, strict=True):
            found[metric]["holm"] = p


def winners(rows: list[dict[str, Any]], rankings: Mapping[str, Ranking]) -> dict[str, Any]:
    """For each protocol, the best row by test HR@10, the next best, and the difference between them."""
    found: dict[str, Any] = {}
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        comparable = [row for row in rows if row["protocol"] == protocol]
        best, *others = sorted(comparable, key=lambda row: -row["test"]["all"]["HR@10"])
        second = others[0]["name"] if others else None
        ahead = rankings[best["name"]].ahead_of(rankings[second]) if second else None
        found[protocol] = {"name": best["name"], "next": second, "difference": ahead}
    return found
