"""What recommendations are like besides right: how much of the catalogue they show, how new, varied and popular."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from pydantic import FiniteFloat

from microlens.assembly import Run, open_run
from microlens.data.dataset import Dataset
from microlens.data.features import load_features
from microlens.data.interactions import Int64
from microlens.data.split import Part, Split
from microlens.errors import InputError
from microlens.evaluate import ROWS_AT_ONCE, USERS_AT_ONCE, encode_catalogue, finite_scores, user_states
from microlens.files import alone_in
from microlens.report import Report
from microlens.run_files import BEYOND, check, replace_text
from microlens.schema import read_json

CUTOFF = 10
ACTIVITY_GROUPS = 5
MOST_TAGS = 10
Masks = dict[str, npt.NDArray[np.bool_]]


@torch.inference_mode()
def recommended_lists(
    run: Run, part: Part = "test", cutoff: int = CUTOFF, on_progress: Callable[[int, int], None] | None = None
) -> Int64:
    """The items that a trained run ranks first for every user among those the user has not had.

    Args:
        run: see :func:`microlens.assembly.open_run`.
        part: whose histories are read.
        cutoff: K.
        on_progress: called with (users done, users).

    Returns:
        (U, K) item numbers, best first; 0 where a user has no further candidate.

    Raises:
        InputError: a vector or a score is NaN or infinite.
    """
    model, split, device = run.model.eval(), run.split, run.device
    catalogue = encode_catalogue(model, run.content, split.num_items, device)
    kept = min(cutoff, split.num_items)
    lists = torch.zeros(split.num_users, cutoff, dtype=torch.int64)
    for start in range(0, split.num_users, USERS_AT_ONCE):
        users = np.arange(start, min(start + USERS_AT_ONCE, split.num_users))
        inputs, seen = (
            torch.from_numpy(items.astype(np.int64)).to(device)
            for items in (split.inputs(part, users), split.history(part, users))
        )
        states = user_states(model, catalogue, torch.from_numpy(users).to(device), inputs)
        for row in range(0, len(users), ROWS_AT_ONCE):
            rows = slice(row, row + ROWS_AT_ONCE)
            scores = finite_scores(model, states[rows], catalogue, users[rows])
            scores.scatter_(1, seen[rows], -torch.inf)
            scores[:, 0] = -torch.inf
            best = scores.topk(kept)
            items = best.indices.masked_fill(best.values == -torch.inf, 0)
            lists[start + row : start + row + len(items), :kept] = items.cpu()
        if on_progress:
            on_progress(int(users[-1]) + 1, split.num_users)
    return lists.numpy()


def beyond_accuracy(lists: Int64, split: Split, vectors: npt.NDArray[np.float32] | None = None) -> dict[str, float]:
    """Metrics of recommended lists that ask for no target.

    ``coverage@K`` is the share of the N candidates that stand in anybody's list. ``novelty@K`` is the mean of
    -log2 p(i), p(i) being the share of users with item i in their train part (Vargas and Castells 2011), one user for
    an item nobody has. ``average_popularity@K`` is the mean train count of the items shown. ``gini@K`` is the Gini
    index of how often each candidate is shown: 0 where all are alike, 1 - 1 / N where one item is all that is shown.
    ``diversity@K`` is the mean over users of 1 minus the cosine of the content of two items of a list (Ziegler et al.
    2005), over all pairs; users with fewer than two items are left out.

    Args:
        lists: (U, K) item numbers, 0 where there is none.
        split: whose items these are.
        vectors: (N+1, D) content of each item number, for the diversity; left out without.
    """
    cutoff, shown = lists.shape[1], lists[lists > 0]
    counts = np.bincount(shown, minlength=split.num_items + 1)[1:]
    popularity = split.train_counts[shown]
    found = {
        "coverage": float(np.mean(counts > 0)),
        "novelty": float(np.mean(-np.log2(np.maximum(popularity, 1) / split.num_users))),
        "average_popularity": float(np.mean(popularity)),
        "gini": gini(counts),
    }
    if vectors is not None:
        found["diversity"] = _diversity(lists, vectors)
    return {f"{name}@{cutoff}": value for name, value in found.items()}


def gini(counts: npt.NDArray[np.integer]) -> float:
    """The Gini index of ``counts`` (N,), half their mean absolute difference over their mean; 0 for no counts."""
    if not counts.sum():
        return 0.0
    ordered = np.sort(counts).astype(np.float64)
    number = len(ordered)
    return float((2 * np.arange(1, number + 1) - number - 1) @ ordered / (number * ordered.sum()))


def _diversity(lists: Int64, vectors: npt.NDArray[np.float32]) -> float:
    """By |sum of unit vectors|^2 = n + 2 * (sum of cosines of pairs): no loop over pairs."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    units[0] = 0
    total, users = 0.0, 0
    for start in range(0, len(lists), USERS_AT_ONCE):
        chunk = lists[start : start + USERS_AT_ONCE]
        numbers = (chunk > 0).sum(1)
        chunk, numbers = chunk[numbers > 1], numbers[numbers > 1]
        of_items = units[chunk].astype(np.float64)
        own = (of_items**2).sum((1, 2))  # n, less what has no content
        twice_cosines = (of_items.sum(1) ** 2).sum(1) - own
        total += float(np.sum(1 - twice_cosines / (numbers * (numbers - 1))))
        users += len(chunk)
    return total / users if users else 0.0


def activity_groups(split: Split, part: Part) -> Masks:
    """Targets (Q,) of ``part`` by how many items are known of their user, in up to five groups of like size.

    Histories of one length stay together, so there are fewer groups where few lengths are common; the names give the
    lengths.
    """
    lengths = split.history_lengths(part)[split.target_users(part)]
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, ACTIVITY_GROUPS + 1)[1:], method="higher"))
    lows = [int(lengths.min()), *(int(edge) + 1 for edge in edges[:-1])]
    return {
        f"{low} items" if low == high else f"{low}-{int(high)} items": (lengths >= low) & (lengths <= high)
        for low, high in zip(lows, edges, strict=True)
    }


def tag_groups(split: Split, dataset: Dataset, part: Part, most: int = MOST_TAGS) -> Masks:
    """Targets (Q,) of ``part`` by their tag: the most frequent tags, all others; none without tags."""
    tags = dataset.items["tag"].fill_null("").to_numpy()[split.items_kept[1:] - 1]
    of_target = tags[split.targets(part) - 1]
    names = pl.Series(of_target).value_counts(sort=True, name="count").rows()
    frequent = sorted(((count, name) for name, count in names if name), key=lambda pair: (-pair[0], pair[1]))[:most]
    if not frequent:
        return {}
    masks = {f"tag {name}": np.asarray(of_target == name) for _, name in frequent}
    return masks | {"other tags": ~np.any(list(masks.values()), axis=0)}


def summarise(folder: Path, on_progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """The metrics beyond accuracy of a run folder, worked out once and kept in ``beyond.json``.

    Returns:
        "metrics" by name, "features", the file in the dataset's ``features`` that the diversity is by (the first by
        name that has every item; None without one), and the hashes of configuration and data.

    Raises:
        InputError: the run is not finished, its files are not those that were written, or its data has gone.
    """
    report = Report.read(folder).provenance
    identity = {name: report[name] for name in ("config_hash", "data_hash")}
    check(folder, BEYOND)
    with suppress(InputError):  # what cannot be read is worked out again
        kept = read_beyond(folder)
        if kept is not None and {name: kept[name] for name in identity} == identity:
            return kept
    run = open_run(folder)
    lists = recommended_lists(run, on_progress=on_progress)
    features, vectors = _content_vectors(run)
    found = {"metrics": beyond_accuracy(lists, run.split, vectors), "features": features, **identity}
    with alone_in(folder):
        replace_text(folder, BEYOND, json.dumps(found, indent=1) + "\n")
    return found


def read_beyond(folder: Path) -> dict[str, Any] | None:
    """What :func:`summarise` kept in a run folder, None where it did not run.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / "beyond.json"
    return asdict(read_json(path, _Kept, "remove it, and it is made again")) if path.exists() else None


@dataclass(frozen=True)
class _Kept:
    metrics: dict[str, FiniteFloat]
    features: str | None
    config_hash: str
    data_hash: str


def _content_vectors(run: Run) -> tuple[str | None, npt.NDArray[np.float32] | None]:
    folder = run.dataset.folder / "features"
    for path in sorted(path for path in folder.glob("*.npy") if not path.name.endswith(".ids.npy")):
        with suppress(InputError):  # it lacks items, or is no matrix of features
            matrix = load_features(path, run.item_ids()[1:])
            return path.name, np.concatenate([np.zeros_like(matrix[:1]), matrix])
    return None, None
