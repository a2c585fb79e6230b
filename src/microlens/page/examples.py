"""Selection of three example users who show what the runs of a page can and cannot do."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from microlens.data.interactions import Int64
from microlens.data.split import Split
from microlens.evaluation.report import Report, cohorts
from microlens.runs.recommend import Ranker

FIRST = 5
_MISSED = 10


@dataclass(frozen=True, kw_only=True)
class Example:
    """A test target, by index, with the number of its user and what it is an example of."""

    target: int
    user: int
    heading: str
    why: str


def choose_examples(split: Split, ranks: Int64, reports: dict[str, Report]) -> list[Example]:
    """Choose a new item that is found, a known item that is found, and a miss of all runs; fewer if users are lacking.

    The new item is found by the run that is best on new items among those that read content, the known item by the run
    that is best on known items. Of all candidates, the user with the longest history is chosen, then the one with the
    lowest number; if there is no candidate, the user who comes closest.

    Args:
        split: the split of all runs.
        ranks: (R, Q) the rank of each test target, one row per run.
        reports: the R reports by run name, in the same order.
    """
    masks = cohorts(split, "test")
    seeing = {name: report for name, report in reports.items() if report.encoder not in ("none", "id")}
    found = [
        _found(split, masks["cold"], "new", ranks, list(reports), _best(seeing or reports, "cold")),
        _found(split, masks["warm"], "known", ranks, list(reports), _best(reports, "warm")),
    ]
    examples: list[Example] = [example for example in found if example is not None]
    missed = _missed(split, ranks, [example.user for example in examples])
    return examples if missed is None else [*examples, missed]


def _best(reports: dict[str, Report], cohort: str) -> str:
    return max(reports, key=lambda name: reports[name].metrics["test"][cohort].get("HR@10", 0.0))


def _found(
    split: Split, cohort: npt.NDArray[np.bool_], kind: str, ranks: Int64, names: Sequence[str], finder: str
) -> Example | None:
    if not cohort.any():
        return None
    finders_ranks = ranks[names.index(finder)]
    hits = cohort & (finders_ranks <= FIRST)
    if hits.any():
        heading = f"A {kind} item that {finder} finds"
        count = f"{hits.sum():,} of the {cohort.sum():,} users whose next item is {kind}"
        why = f"{finder} has the next item among its first five for {count}; this is one of them."
        return _example(split, hits, heading, why)
    nearest = cohort & (finders_ranks == finders_ranks[cohort].min())
    return _example(
        split,
        nearest,
        heading=f"The {kind} item that {finder} comes nearest to",
        why=f"{finder} has the next item among its first five for none of the {cohort.sum():,} users "
        f"whose next item is {kind}.",
    )


def _missed(split: Split, ranks: Int64, taken: list[int]) -> Example | None:
    best = ranks.min(axis=0)
    free = ~np.isin(split.target_users("test"), taken)
    if not free.any():
        return None
    missed = best > _MISSED
    if (missed & free).any():
        return _example(
            split,
            missed & free,
            heading="An item that every run misses",
            why=f"For {missed.sum():,} of all {len(best):,} users no run has the next item among its first ten; "
            f"this is one of them.",
        )
    return _example(
        split,
        free & (best == best[free].max()),
        heading="The hardest item",
        why="Every user's next item is among the first ten of some run; here the best of them puts it lowest.",
    )


def _example(split: Split, targets: npt.NDArray[np.bool_], heading: str, why: str) -> Example:
    """The first target of a mask (Q,) whose user has the longest history."""
    members = np.flatnonzero(targets)
    users = split.target_users("test")[members]
    longest = np.argmax(split.history_lengths("test")[users])
    return Example(target=int(members[longest]), user=int(users[longest]), heading=heading, why=why)


def first_items(ranker: Ranker, history: Int64, target: int, user: int | None = None) -> tuple[list[int], int]:
    """The first five items after ``history`` (H,), and the rank of ``target``; ties count against the target.

    ``user`` is the number of the history's user, required by models that identify users by number.
    """
    scores = ranker.scores(history, user=user).numpy(force=True)
    candidates = np.flatnonzero(scores > -np.inf)
    order = candidates[np.lexsort((candidates == target, -scores[candidates]))]
    return order[:FIRST].tolist(), int(np.flatnonzero(order == target)[0]) + 1
