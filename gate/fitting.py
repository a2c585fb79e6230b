"""Preparing the data sets of the gate, and fitting its rows."""

from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

import microlens as ml
from gate.declared import GateData, Row
from microlens.errors import InputError
from microlens.files.writing import digest_of, sha256
from microlens.recommenders import RECOMMENDERS

SEED = 42
KEPT = ("NDCG@10", "Recall@10", "HR@10")


def dataset_of(data: GateData, source: Path, folder: Path) -> Path:
    """Prepare a data set in ``folder``; return the dataset's folder.

    Raises:
        InputError: the data is not the declared one.
    """
    release = source
    if not list(source.glob("*pairs.*")):
        release = folder / "release"
        if not release.exists():
            folder.mkdir(parents=True, exist_ok=True)
            ml.convert(source, release)
    (pairs,) = list(release.glob("*pairs.*"))
    if sha256(pairs) != data.pairs_sha256:
        raise InputError(
            f"{source} is not {data.title}: the checksum of {pairs.name} differs; get it from {data.home}."
        )
    dataset = folder / "dataset"
    if not (dataset / "manifest.json").exists():
        ml.prepare(_without_media(release, folder / "tables"), dataset)
    return dataset


def _without_media(release: Path, folder: Path) -> Path:
    """A folder with links to the tables of a release: the gate reads no media."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in release.iterdir():
        link = folder / table.name
        if table.is_file() and not link.exists():
            link.symlink_to(table.resolve())
    return folder


def fitted(row: Row, protocol: dict[str, Any], dataset: Path, work: Path) -> dict[str, Any]:
    """Fit a row, or read its finished runs: mean test metrics over its seeds, seconds, epochs and provenance."""
    name = digest_of([asdict(row), protocol])[:12]
    options = dict(row.options)
    if row.features == "tags":
        options["features"] = str(_tag_features(dataset))
    seeds = range(SEED, SEED + row.seeds)
    reports = [
        ml.fit(
            dataset, row.model, output=work / "runs" / f"{name}-{seed}", protocol=protocol, seed=seed, **options
        ).report
        for seed in seeds
    ]
    tests, costs = [report.metrics["test"]["all"] for report in reports], [report.cost for report in reports]
    return {
        "metrics": {name: round(mean(test[name] for test in tests), 6) for name in KEPT if name in tests[0]},
        "options": row.options,
        "depends_on_seed": RECOMMENDERS[row.model].depends_on_seed,
        "protocol": reports[0].protocol["hash"],
        "device": costs[0]["device"],
        "epochs": [cost["epochs"] for cost in costs],
        "seconds": round(sum(cost["epochs"] * cost["seconds_per_epoch"] for cost in costs), 1),
        "seeds": list(seeds),
        **{key: reports[0].provenance[key] for key in ("commit", "data_hash")},
    }


def _tag_features(dataset: Path) -> Path:
    """Write the tags of the items as one-hot features."""
    path = dataset / "features" / "tags.npy"
    if not path.exists():
        data = ml.Dataset(dataset)
        tags = np.array([tag or "" for tag in data.items["tag"].to_list()])
        path.parent.mkdir(exist_ok=True)
        np.save(path, (tags[:, None] == np.unique(tags)).astype(np.float32))
        np.save(path.with_suffix(".ids.npy"), np.asarray(data.item_ids.to_list()))
    return path
