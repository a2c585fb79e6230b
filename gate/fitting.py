"""Preparing the data sets of the gate, and fitting its rows."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import microlens as ml
from gate.declared import GateData, Row
from microlens.errors import InputError
from microlens.files.writing import digest_of, sha256
from microlens.recommenders import RECOMMENDERS

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
    """Fit a row, or read its finished run: test metrics, seconds, epochs and provenance."""
    name = digest_of([asdict(row), protocol])[:12]
    options = dict(row.options)
    if row.features == "tags":
        options["features"] = str(_tag_features(dataset))
    run = ml.fit(dataset, row.model, output=work / "runs" / name, protocol=protocol, **options)
    report = run.report
    test, cost = report.metrics["test"]["all"], report.cost
    return {
        "metrics": {metric: round(test[metric], 6) for metric in KEPT if metric in test},
        "options": row.options,
        "depends_on_seed": RECOMMENDERS[row.model].depends_on_seed,
        "protocol": report.protocol["hash"],
        "device": cost["device"],
        "epochs": cost["epochs"],
        "seconds": round(cost["epochs"] * cost["seconds_per_epoch"], 1),
        **{key: report.provenance[key] for key in ("seed", "commit", "data_hash")},
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
