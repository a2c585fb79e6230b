"""Checks of the rows of the gate."""

from collections.abc import Mapping
from math import sqrt

from gate.declared import Row

METRIC = "NDCG@10"
BAND = 0.03  # fraction by which a trained row may differ from the last run; other machines sum in another order
DEVIATIONS = 3  # or this many standard deviations of its mean over seeds, where they were measured and are wider
FITTED_BAND = 0.005  # the same for models that depend on no seed

Metrics = Mapping[str, float]


def faults_of(row: Row, found: Metrics, popularity: Metrics, last: Metrics | None, *, deterministic: bool) -> list[str]:
    """Describe the checks that a row fails, one sentence each; empty if it passes.

    Args:
        row: the row.
        found: its test metrics.
        popularity: those of Popularity under the same protocol.
        last: those of the row in the last recorded run, if there is one.
        deterministic: True if the model's scores depend on no seed.
    """
    faults = []
    if row.model != "popularity" and found[METRIC] <= popularity[METRIC]:
        faults.append(f"{METRIC} is {found[METRIC]:.4f}, not above Popularity's {popularity[METRIC]:.4f}")
    if row.published:
        for metric, figure in row.published.metrics.items():
            if found[metric] < figure * (1 - row.published.tolerance):
                faults.append(f"{metric} is {found[metric]:.4f}, below the published {figure:.4f}")
    band = FITTED_BAND if deterministic else max(BAND, DEVIATIONS * row.seed_deviation / sqrt(row.seeds))
    if last is not None and abs(found[METRIC] - last[METRIC]) > band * last[METRIC]:
        faults.append(
            f"{METRIC} is {found[METRIC]:.4f}, more than {band:.1%} away from the last run's {last[METRIC]:.4f}"
        )
    return faults
