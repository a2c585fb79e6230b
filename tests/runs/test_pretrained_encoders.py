"""Encoders of pretrained models through the real code: frozen features, and training on the cache of their trunks."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from microlens.config.run_config import RunConfig
from microlens.data.batches import ItemBatch
from microlens.data.content import ItemContent
from microlens.data.dataset import Dataset
from microlens.encoders import build_encoder
from microlens.encoders.content import ContentEncoder
from microlens.runs.assembly import dataset_arguments
from microlens.runs.feature_files import write_features
from microlens.runs.run import load
from microlens.runs.train import train

pytest.importorskip("transformers", reason="the extra [encoders] is not installed")

from tests.reference.pretrained_folders import (
    HEARD,
    library_model,
    write_folder,
    write_multilingual,
)

KINDS = {"image": "dinov2", "video": "vjepa2", "sound": "clap", "text": "xlm-roberta"}


@pytest.fixture(params=KINDS)
def table(request: pytest.FixtureRequest, video_dataset: Path, tmp_path: Path) -> dict[str, Any]:
    """An encoder table of each kind, with a folder of its family."""
    kind, family, folder = request.param, KINDS[request.param], tmp_path / "model"
    if kind == "text":
        titles = Dataset(video_dataset).items["title"].to_list()
        write_multilingual(folder, " ".join(titles).split())
    else:
        write_folder(library_model(family), folder, HEARD if kind == "sound" else None)
    return {"name": kind, "model": str(folder)}


def test_features_and_top1_of_a_folder(video_dataset: Path, tmp_path: Path, table: dict[str, Any]) -> None:
    dataset = tmp_path / "dataset"
    shutil.copytree(video_dataset, dataset, ignore=shutil.ignore_patterns("cache", "features"))
    made = write_features(dataset, table["name"], options={"model": table["model"]})
    rows = np.load(made.path)
    data = Dataset(dataset)
    numbers = np.arange(len(data.items) + 1)
    encoder = build_encoder(table, {"dim": 4, **dataset_arguments(data, numbers)}).eval()
    assert isinstance(encoder, ContentEncoder)
    content = ItemContent(data, data.interactions.item_ids[numbers], encoder.needs)
    first = ItemBatch(items=torch.arange(1, 4), content=content.read(np.arange(1, 4)))
    with torch.inference_mode():
        expected = encoder.trunk.features(encoder.content(first))
    np.testing.assert_allclose(rows[:3], expected, atol=1e-4, rtol=1e-4)
    assert rows.std(axis=0).max() > 1e-3  # items can be told apart

    config = RunConfig.model_validate(
        {
            "dataset": dataset,
            "output": tmp_path / "run",
            "model": {"name": "sasrec", "dim": 8},
            "encoder": {**table, "tune": "top1"},
            "train": {"epochs": 1, "batch_size": 12, "lr": 1e-3, "device": "cpu"},
        }
    )
    report = train(config)
    (cache,) = (dataset / "cache").iterdir()
    links = json.loads((cache / "provenance.json").read_text())["frozen_links"]
    assert links == len(encoder.trunk.stages()) - 1
    assert math.isfinite(json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["loss"])
    assert load(config.output).evaluate()["metrics"] == report.metrics
