"""What recommended lists are like, against loops; slices of users; lists against sorted scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microlens.config.run_config import RunConfig
from microlens.data.dataset import Dataset
from microlens.data.prepare import prepare
from microlens.data.protocol import Protocol
from microlens.data.split import Split, make_split
from microlens.evaluation.beyond_accuracy import (
    activity_groups,
    beyond_accuracy,
    gini,
    tag_groups,
)
from microlens.evaluation.metrics import BY_NAME, user_values
from microlens.evaluation.ranking import encode_catalogue, user_states
from microlens.files.run_manifest import BEYOND, replace_text
from microlens.media.decoding import Settings
from microlens.runs.assembly import open_experiment
from microlens.runs.list_metrics import recommended_lists, summarise
from microlens.runs.train import train
from tests.conftest import random_sequences, write_pairs
from tests.data.test_split import interactions_of
from tests.reference.beyond_loop import beyond_loop, gini_loop


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beyond")
    prepare(write_pairs(folder / "release", random_sequences(70, 25)), folder / "dataset", Settings())
    config = {
        "dataset": folder / "dataset",
        "output": folder / "run",
        "model": {"name": "sasrec", "dim": 8},
        "encoder": {"name": "id"},
        "train": {"epochs": 1, "batch_size": 32, "device": "cpu"},
    }
    train(RunConfig.model_validate(config))
    return folder / "run"


def small_split(seed: int = 0) -> Split:
    return make_split(interactions_of(random_sequences(40, 20, seed=seed)), Protocol())


def test_metrics_equal_loops() -> None:
    split = small_split()
    random = np.random.default_rng(0)
    lists = np.stack([random.permutation(split.num_items)[:5] + 1 for _ in range(split.num_users)])
    lists[0, 3:] = 0  # a user with three candidates
    lists[1, 1:] = 0  # and one with a single one, of whom no pair can be asked
    vectors = random.normal(size=(split.num_items + 1, 6)).astype(np.float32)
    vectors[0] = 9.0  # padding is not looked at
    vectors[3] = 0.0  # an item without content
    users = np.arange(split.num_users)
    past = [[item for item in row if item] for row in split.history("valid", users).tolist()]
    ours = beyond_accuracy(lists, split, vectors)
    for name, expected in beyond_loop(lists.tolist(), past, split.num_items, vectors).items():
        assert ours[f"{name}@5"] == pytest.approx(expected, rel=1e-6)
    assert "diversity@5" not in beyond_accuracy(lists, split)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=30).filter(any))
def test_gini_equals_the_loop(counts: list[int]) -> None:
    assert gini(np.array(counts)) == pytest.approx(gini_loop(counts), abs=1e-12)


def test_gini_at_its_ends() -> None:
    assert gini(np.array([3, 3, 3])) == 0.0
    assert gini(np.array([0, 0, 0, 5])) == pytest.approx(0.75)
    assert gini(np.array([0, 0])) == 0.0


def test_lists_are_the_best_scored_items_that_a_user_has_not_had(run_folder: Path) -> None:
    run = open_experiment(run_folder)
    lists = recommended_lists(run)
    users = np.arange(run.split.num_users)
    with torch.inference_mode():
        catalogue = encode_catalogue(run.model, run.content, run.split.num_items, run.device)
        history = torch.from_numpy(run.split.inputs("test", users).astype(np.int64))
        scores = run.model.score(user_states(run.model, catalogue, torch.from_numpy(users), history), catalogue).numpy()
    for user, had in enumerate(run.split.history("test", users)):
        candidates = [item for item in range(1, run.split.num_items + 1) if item not in had]
        best = sorted(candidates, key=lambda item: -scores[user, item])[:10]
        assert lists[user].tolist() == best


def test_a_catalogue_smaller_than_the_list_leaves_zeros(run_folder: Path) -> None:
    run = open_experiment(run_folder)
    lists = recommended_lists(run, cutoff=40)
    had = (run.split.history("test", np.arange(run.split.num_users)) > 0).sum(1)
    assert lists.shape == (run.split.num_users, 40)
    assert ((lists > 0).sum(1) == run.split.num_items - had).all()


def test_a_summary_is_worked_out_once(run_folder: Path) -> None:
    first = summarise(run_folder)
    replace_text(run_folder, BEYOND, json.dumps({**first, "metrics": {"coverage@10": -1.0}}))
    assert summarise(run_folder)["metrics"] == {"coverage@10": -1.0}
    replace_text(run_folder, BEYOND, json.dumps({**first, "config_hash": "another"}))
    assert summarise(run_folder) == first
    assert first["features"] is None
    assert set(first["metrics"]) == {"coverage@10", "novelty@10", "average_popularity@10", "gini@10"}


def test_activity_groups_part_the_users_by_length() -> None:
    split = small_split()
    groups = activity_groups(split, "test")
    assert (np.sum(list(groups.values()), axis=0) == 1).all()
    lengths = np.diff(split.offsets) - 1
    tops = [lengths[mask].max() for mask in groups.values()]
    bottoms = [lengths[mask].min() for mask in groups.values()]
    assert all(top < bottom for top, bottom in zip(tops[:-1], bottoms[1:], strict=True))
    assert [name.split()[0].split("-")[0] for name in groups] == [str(bottom) for bottom in bottoms]


def test_tag_groups_are_of_the_target(run_folder: Path) -> None:
    run = open_experiment(run_folder)
    assert tag_groups(run.split, run.dataset, "test") == {}

    class Tagged(Dataset):
        def __init__(self) -> None:
            super().__init__(run.dataset.folder)
            names = [["cat", "dog", ""][number % 3] for number in range(self.interactions.num_items)]
            self.__dict__["items"] = self.items.with_columns(tag=np.array(names))

    dataset = Tagged()
    groups = tag_groups(run.split, dataset, "test", most=1)
    assert (np.sum(list(groups.values()), axis=0) == 1).all()
    targets = run.split.items_kept[run.split.targets("test")] - 1
    tags = np.array(dataset.items["tag"].to_list())[targets]
    commonest = max(("cat", "dog"), key=lambda tag: (tags == tag).sum())
    assert (groups[f"tag {commonest}"] == (tags == commonest)).all()


@pytest.mark.parametrize("tied", [False, True])
def test_metrics_by_name_are_those_of_torchmetrics(tied: bool) -> None:
    """Ties stand against the model, so the target comes last of its equals before the other library sorts."""
    retrieval = pytest.importorskip("torchmetrics.retrieval")
    random = np.random.default_rng(0)
    users, items, cutoff = 60, 30, 10
    scores = random.normal(size=(users, items))
    scores = np.round(scores, 0 if tied else 3)
    target = random.integers(0, items, users)
    of_target = scores[np.arange(users), target]
    ranks = (scores >= of_target[:, None]).sum(1)
    broken = scores - scores.min() + 1  # that library takes no score below zero
    broken[np.arange(users), target] -= 1e-4
    indexes = torch.arange(users).repeat_interleave(items)
    relevant = torch.zeros(users, items, dtype=torch.bool)
    relevant[torch.arange(users), torch.from_numpy(target)] = True
    theirs = {
        "HR": retrieval.RetrievalHitRate(top_k=cutoff),
        "Recall": retrieval.RetrievalRecall(top_k=cutoff),
        "MRR": retrieval.RetrievalMRR(top_k=cutoff),
        "MAP": retrieval.RetrievalMAP(top_k=cutoff),
        "NDCG": retrieval.RetrievalNormalizedDCG(top_k=cutoff),
    }
    assert set(theirs) == set(BY_NAME)
    for name, metric in theirs.items():
        expected = metric(torch.from_numpy(broken).flatten(), relevant.flatten(), indexes=indexes)
        assert user_values(f"{name}@{cutoff}", ranks).mean() == pytest.approx(float(expected), abs=1e-6)
