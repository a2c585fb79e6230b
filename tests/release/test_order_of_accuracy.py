"""The order of accuracy that the synthetic world is made for: tastes change, and content alone knows new items."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microlens.config.run_config import RunConfig
from microlens.evaluation.report import Report, read_ranks
from microlens.release.synthetic_media import ATTRIBUTES
from microlens.release.synthetic_world import World, build_world
from microlens.runs.train import train

USERS, ITEMS = 5000, 300
MODELS: dict[str, dict[str, Any]] = {
    "popularity": {"model": {"name": "popularity"}},
    "DSSM": {
        "model": {"name": "dssm", "dim": 32},
        "encoder": {"name": "id"},
        "train": {"epochs": 60, "batch_size": 512, "lr": 5e-3},
    },
    "LightGCN": {
        "model": {"name": "lightgcn", "dim": 32},
        "encoder": {"name": "id"},
        "train": {"epochs": 60, "batch_size": 512, "lr": 5e-3},
    },
    "SASRec": {
        "model": {"name": "sasrec", "dim": 32},
        "encoder": {"name": "id"},
        "train": {"epochs": 60, "batch_size": 128, "lr": 3e-3},
    },
    "SASRec on content": {
        "model": {"name": "sasrec", "dim": 32},
        "train": {"epochs": 60, "batch_size": 128, "lr": 3e-3},
    },
}


def sequences_of(world: World) -> list[list[int]]:
    return [items.tolist() for items in np.split(world.item + 1, np.flatnonzero(np.diff(world.user)) + 1)]


def write_content(world: World, folder: Path) -> str:
    """What a good encoder sees of each item: its attributes, one of many each, and some noise."""
    seen = np.concatenate([np.eye(len(ATTRIBUTES[name]))[values] for name, values in world.attributes.items()], 1)
    noise = np.random.default_rng(0).normal(scale=0.1, size=seen.shape)
    np.save(folder / "seen.npy", (seen + noise).astype(np.float32))
    np.save(folder / "seen.ids.npy", np.arange(1, ITEMS + 1))
    return str(folder / "seen.npy")


@pytest.fixture
def reports(make_dataset: Callable[[list[list[int]]], Path], tmp_path: Path) -> dict[str, Report]:
    world = build_world(USERS, ITEMS, seed=1)
    dataset = make_dataset(sequences_of(world))
    content = {"name": "features", "path": write_content(world, tmp_path)}
    found = {}
    for name, sections in MODELS.items():
        if name == "SASRec on content":
            sections = {**sections, "encoder": content}
        training = {"patience": 5, "device": "cpu", **sections.get("train", {})}
        table = {"dataset": dataset, "output": tmp_path / name, **sections, "train": training}
        found[name] = train(RunConfig.model_validate(table))
    return found


@pytest.mark.published
def test_the_order_is_as_the_world_predicts(reports: dict[str, Report], tmp_path: Path) -> None:
    metrics = {name: report.metrics["test"] for name, report in reports.items()}
    warm, cold = ({name: of[cohort]["HR@10"] for name, of in metrics.items()} for cohort in ("warm", "cold"))
    chance = 10 / ITEMS
    assert warm["SASRec"] > 1.08 * max(warm["DSSM"], warm["LightGCN"])
    assert min(warm["DSSM"], warm["LightGCN"]) > 2 * warm["popularity"]
    assert cold["SASRec on content"] > 5 * chance
    assert max(hits for name, hits in cold.items() if name != "SASRec on content") < chance

    # A model that reads in order leads most where the taste has changed.
    world = build_world(USERS, ITEMS, seed=1)
    changed = world.earlier_colour != world.favourites["colour"]
    last_is_new = world.is_new[[items[-1] - 1 for items in sequences_of(world)]]
    hits = {name: read_ranks(tmp_path / name)["test"][0] <= 10 for name in ("SASRec", "LightGCN")}
    lead = hits["SASRec"].astype(float) - hits["LightGCN"]
    assert lead[changed & ~last_is_new].mean() > lead[~changed & ~last_is_new].mean() + 0.02
