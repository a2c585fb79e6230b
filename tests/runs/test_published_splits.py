"""MMRec's and RecBole's folders give the numbers that their own rules give, computed here in plain loops."""

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microlens as ml
from microlens.config.run_config import RunConfig
from microlens.data.prepare import prepare
from microlens.data.protocol import NAMED_PROTOCOLS
from microlens.evaluation.report import Report
from microlens.runs.train import train

Rows = dict[str, dict[int, list[int]]]
"""By part, the items of each user."""


def parts_of(rows: list[tuple[int, int, int]]) -> Rows:
    parts: Rows = {part: defaultdict(list) for part in ("train", "valid", "test")}
    for user, item, label in rows:
        parts[("train", "valid", "test")[label]][user].append(item)
    return parts


def world(seed: int = 0) -> list[tuple[int, int, int]]:
    """Users of two tastes, with a split; user 0 has no training items, and item 59 is known to no one else."""
    random = np.random.default_rng(seed)
    rows = [(0, 58, 1), (0, 59, 2)]
    for user in range(1, 40):
        items = random.permutation(30)[: random.integers(6, 16)] + 28 * (user % 2)
        labels = random.permutation([0, 0, 0, 1, 2, *random.choice(3, len(items) - 5, p=[0.6, 0.2, 0.2])])
        rows += [(user, int(item), int(label)) for item, label in zip(items, labels, strict=True)]
    return rows


def popularity(train: Mapping[int, list[int]], items: list[int]) -> dict[int, dict[int, float]]:
    counts: dict[int, float] = defaultdict(float)
    for own in train.values():
        for item in own:
            counts[item] += 1
    return {user: {item: counts[item] for item in items} for user in train}


def cosine_neighbours(train: Mapping[int, list[int]], items: list[int]) -> dict[int, dict[int, float]]:
    """The sum of the cosines of an item's users with those of each of the user's items."""
    users_of = {item: {user for user, own in train.items() if item in own} for item in items}

    def cosine(one: int, other: int) -> float:
        shared = len(users_of[one] & users_of[other])
        return shared / math.sqrt(len(users_of[one]) * len(users_of[other])) if shared else 0.0

    return {user: {item: sum(cosine(item, other) for other in own) for item in items} for user, own in train.items()}


def native(scores: dict[int, dict[int, float]], parts: Rows, part: str, *, masks_valid: bool) -> dict[str, float]:
    """Recall and NDCG as MMRec and RecBole define them: means over the users with training items and targets."""
    found: dict[str, list[float]] = defaultdict(list)
    for user, targets in parts[part].items():
        if not parts["train"].get(user):
            continue
        masked = set(parts["train"][user])
        if masks_valid and part == "test":
            masked |= set(parts["valid"].get(user, []))
        own = scores[user]
        # Equal scores have no order in either package; here, a target comes after all that equal it.
        places = [sum(own[item] >= own[target] - 1e-6 for item in own if item not in masked) for target in targets]
        for cutoff in (10, 20):
            gains = [1 / math.log2(place + 1) for place in places if place <= cutoff]
            best = sum(1 / math.log2(place + 2) for place in range(min(cutoff, len(targets))))
            found[f"Recall@{cutoff}"].append(len(gains) / len(targets))
            found[f"NDCG@{cutoff}"].append(sum(gains) / best)
    return {metric: float(np.mean(values)) for metric, values in found.items()}


def report_of(dataset: Path, output: Path, model: dict[str, Any], protocol: str) -> Report:
    return train(
        RunConfig.model_validate(
            {"dataset": dataset, "output": output, "model": model, "protocol": NAMED_PROTOCOLS[protocol]}
        )
    )


def write_mmrec(rows: list[tuple[int, int, int]], folder: Path) -> None:
    folder.mkdir()
    lines = [f"{user}\t{item}\t1.0\t{label}" for user, item, label in rows]
    (folder / "baby.inter").write_text("\n".join(["userID\titemID\trating\tx_label", *lines]) + "\n")


def write_recbole(rows: list[tuple[int, int, int]], folder: Path) -> None:
    folder.mkdir()
    for label, part in enumerate(("train", "valid", "test")):
        lines = [f"{user}\t{item}" for user, item, own in rows if own == label]
        (folder / f"ml.{part}.inter").write_text("\n".join(["user_id:token\titem_id:token", *lines]) + "\n")


MODELS = {
    "popularity": ({"name": "popularity"}, popularity),
    "item_knn": ({"name": "item_knn", "similarity": "cosine", "neighbours": 10_000}, cosine_neighbours),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("package", ["mmrec", "recbole"])
def test_numbers_are_those_of_the_package(tmp_path: Path, package: str, model: str) -> None:
    rows = world()
    (write_mmrec if package == "mmrec" else write_recbole)(rows, tmp_path / "source")
    assert ml.convert(tmp_path / "source", tmp_path / "release").format == package
    prepare(tmp_path / "release", tmp_path / "dataset")
    settings, scores_of = MODELS[model]
    protocol = "given" if package == "mmrec" else "given-recbole"
    report = report_of(tmp_path / "dataset", tmp_path / "run", settings, protocol)
    parts = parts_of(rows)
    scores = scores_of(parts["train"], sorted({item for _, item, _ in rows}))
    for part in ("valid", "test"):
        expected = native(scores, parts, part, masks_valid=package == "recbole")
        for metric, value in expected.items():
            found = report.metrics[part]["all"][metric]
            # In float32, one of equal sums of cosines may come out higher.
            assert value - 1e-9 <= found <= value + (0.004 if model == "item_knn" else 1e-9)
    assert expected["Recall@10"] > 0.1  # there is something to be found


@pytest.mark.real_data
@pytest.mark.slow
def test_movielens_split_by_recbole_gives_what_its_rules_give(shared_data: Path, tmp_path: Path) -> None:
    """RecBole's folder of real interactions: popularity and neighbours against the plain loops."""
    random = np.random.default_rng(0)
    lines = (shared_data / "ml-100k-posters" / "ml-100k_pairs.csv").read_text().splitlines()[1:]
    labels = random.choice(3, len(lines), p=[0.8, 0.1, 0.1]).tolist()
    rows = [(*map(int, line.split(",")[:2]), label) for line, label in zip(lines, labels, strict=True)]
    write_recbole(rows, tmp_path / "source")
    ml.convert(tmp_path / "source", tmp_path / "release")
    prepare(tmp_path / "release", tmp_path / "dataset")
    report = report_of(tmp_path / "dataset", tmp_path / "run", {"name": "popularity"}, "given-recbole")
    parts = parts_of(rows)
    scores = popularity(parts["train"], sorted({item for _, item, _ in rows}))
    for part in ("valid", "test"):
        expected = native(scores, parts, part, masks_valid=True)
        assert {metric: report.metrics[part]["all"][metric] for metric in expected} == pytest.approx(expected, abs=1e-6)
