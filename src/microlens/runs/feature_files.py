"""Frozen features of all items as files for the encoder ``features``, with their provenance."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch

import microlens
from microlens import environment
from microlens.building import build, nearest, options_of
from microlens.config.toml_files import toml_value
from microlens.data.content import ItemContent
from microlens.data.dataset import Dataset
from microlens.data.interactions import Int64, ItemIds
from microlens.distributed import local_device
from microlens.encoders import CONTENT_ENCODERS, ENCODER_REGISTRY, ENCODERS
from microlens.encoders.content import ContentEncoder
from microlens.encoders.e5 import E5_WEIGHTS
from microlens.encoders.image import IMAGE_NETWORKS
from microlens.encoders.text import BERT_SMALL_WEIGHTS, TextEncoder
from microlens.encoders.video import VIDEO_NETWORKS
from microlens.encoders.weights import WeightsFile
from microlens.encoders.yamnet import YAMNET_WEIGHTS
from microlens.engines.ray_cluster import RayEngine
from microlens.errors import InputError
from microlens.files.writing import (
    MARK,
    atomic_write,
    claim_folder,
    digest_of,
    lock_folder,
    remove_folder,
    sha256,
    write_text,
)
from microlens.release.ids import Id
from microlens.runs.assembly import dataset_arguments
from microlens.runs.feature_record import FeatureFiles, read_finished
from microlens.runs.feature_tasks import compute_on
from microlens.runs.feature_vectors import Layers, VectorsPerItem
from microlens.training.extraction import WRITTEN, OnProgress, extract
from microlens.training.trunk_cache import frozen_digest

OFFICIAL: dict[str, WeightsFile] = {
    **{name: network.official for name, network in VIDEO_NETWORKS.items()},
    **{name: network.official for name, network in IMAGE_NETWORKS.items()},
    "bert_small": BERT_SMALL_WEIGHTS,
    "e5": E5_WEIGHTS,
    "yamnet": YAMNET_WEIGHTS,
}
# Encoder options that do not affect features, or that have an argument of their own.
NO_OPTIONS = {"weights", "head", "missing"}
READERS = 4  # threads that decode stored images


def write_features(
    folder: str | Path,
    encoder: str,
    *,
    weights: str | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    missing: Literal["error", "skip"] = "error",
    layers: Layers | None = None,
    per_frame: bool = False,
    engine: RayEngine | None = None,
    on_progress: OnProgress | None = None,
) -> FeatureFiles:
    """Compute the frozen features of every item of a dataset with an encoder, or read those computed before.

    The features are the pooled outputs of the trunk, before the projection. With ``layers`` or ``per_frame`` they are
    several vectors per item, for encoders such as "layer_mix" and "attention_pool". Files are written atomically. An
    interrupted computation resumes, with bitwise identical results on the same machine.

    Args:
        folder: folder of a prepared dataset.
        encoder: name or import path of an encoder with a trunk.
        weights: "random", "default" or a path; None means the default of the encoder.
        seed: seed of random weights; a run with the same seed draws the same weights.
        options: options of the encoder, as in a configuration.
        out: folder of the files; ``features`` in the dataset by default.
        missing: "error" or "skip" items without the content.
        layers: write the outputs of the last ``layers`` layers, or of "all" with the embeddings.
        per_frame: write the features of each frame of the clips, or of each window of the sound.
        engine: a cluster that computes them, on machines of the same kind that have the dataset in the same folder.
        on_progress: called with (done, total) items.

    Raises:
        InputError: the encoder, an option or the weights are invalid, content is missing, or files of the same name
            were computed from other inputs.
    """
    folder, vectors = Path(folder), VectorsPerItem(layers=layers, per_frame=per_frame)
    dataset = Dataset(folder)
    tower, chosen = _frozen_tower(dataset, encoder, weights, seed, options or {})
    compute = vectors.compute(tower, encoder)
    if isinstance(tower, TextEncoder) and not tower.has_texts:
        raise InputError(f"{folder}: no item has a text, which {encoder} needs.")
    numbers, left_out = _with_content(dataset, encoder, tower.needs, missing)
    item_keys = dataset.interactions.item_ids[numbers]
    identity = _identity(dataset, tower, encoder, options or {}, item_keys[1:]) | vectors.identity(tower)
    out = folder / "features" if out is None else Path(out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{encoder.replace(':', '.')}-{_digest(identity)}.npy"
    working = out / f".{path.stem}.partial"
    claim_folder(working)
    with lock_folder(working):
        if not path.exists():
            device = local_device("auto")
            provenance = {
                **identity,
                **_weights(encoder, chosen, seed),
                "settings": dataset.manifest["settings"],
                "num_items": len(numbers) - 1,
                "feature_dim": tower.trunk.feature_dim,
                "left_out": left_out,
                "made_by": environment.describe(device),
            }
            elsewhere = None
            if engine is not None:
                load = partial(_load, folder.absolute(), encoder, weights, seed, options or {}, missing)
                elsewhere = compute_on(engine, load, _digest(identity), tower, device, encoder, vectors)
            content = ItemContent(dataset, dataset.interactions.item_ids[numbers], tower.needs, READERS)
            # The name depends on machine and versions: a partial result from elsewhere is not resumed, its bits might
            # differ.
            rows = working / _digest(provenance)
            extract(
                compute, content, len(numbers) - 1, rows, provenance,
                device=device, half=vectors.several, elsewhere=elsewhere, on_progress=on_progress,
            )  # fmt: skip
            _publish(rows, path, dataset.item_id_array(numbers[1:]), provenance)
        remove_folder(working, [f"*/{name}" for name in (*WRITTEN, MARK)])
    return FeatureFiles(path=path, provenance=read_finished(path, identity, dataset.item_id_array(numbers[1:])))


def read_options(assignments: Iterable[str]) -> dict[str, Any]:
    """Parse encoder options of the form ``key=value``.

    Raises:
        InputError: an assignment has no ``=``, or its value is not a single TOML value.
    """
    options = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator:
            raise InputError(f"option {assignment}: expected key=value, such as source=frame.")
        try:
            options[name.strip()] = toml_value(text.strip())
        except InputError as error:
            raise InputError(f"option {name.strip()}: {error}") from None
    return options


def _frozen_tower(
    dataset: Dataset, name: str, weights: str | None, seed: int, options: Mapping[str, Any]
) -> tuple[ContentEncoder, str]:
    """Build the encoder with a frozen trunk; also return its weights: "random", "default" or a path."""
    constructor = _content_encoder(name)
    numbers = np.arange(dataset.interactions.num_items + 1)
    given = {**dataset_arguments(dataset, numbers), "item_ids": dataset.item_id_array(numbers), "dim": 1}
    schemas = options_of(constructor, given)
    if "tune" not in schemas:
        raise InputError(f"encoder is '{name}', which has no trunk whose features could be stored.")
    accepted = {option for option, schema in schemas.items() if schema.group != "tuning"} - NO_OPTIONS
    for option in options:
        if option not in accepted:
            raise InputError(f"option {option} is unknown for frozen features of {name}; {nearest(option, accepted)}")
    table = {**options, "tune": "frozen"}
    if weights is not None:
        if "weights" not in schemas:
            raise InputError(f"weights is {weights}, but {name} has random weights only; leave it out.")
        table["weights"] = weights
    torch.manual_seed(seed)
    tower = build(constructor, table, given, "encoder")
    assert isinstance(tower, ContentEncoder)
    chosen = weights or (schemas["weights"].default if "weights" in schemas else "random")
    return tower.eval().to(local_device("auto")), str(chosen)


def _load(
    folder: Path, encoder: str, weights: str | None, seed: int, options: Mapping[str, Any], missing: str
) -> tuple[ContentEncoder, ItemContent]:
    """The encoder, and the content that it reads, in another process."""
    dataset = Dataset(folder)
    tower, _ = _frozen_tower(dataset, encoder, weights, seed, options)
    numbers, _ = _with_content(dataset, encoder, tower.needs, missing)
    return tower, ItemContent(dataset, dataset.interactions.item_ids[numbers], tower.needs, READERS)


def _content_encoder(name: str) -> Callable[..., Any]:
    if name in ENCODERS and name not in CONTENT_ENCODERS:
        raise InputError(f"encoder is '{name}', which reads no content; accepted: {', '.join(CONTENT_ENCODERS)}.")
    return ENCODER_REGISTRY.find(name, "encoder")


def _identity(
    dataset: Dataset, tower: ContentEncoder, encoder: str, options: Mapping[str, Any], item_keys: Int64
) -> dict[str, Any]:
    """All inputs that the features depend on."""
    return {
        "encoder": encoder,
        "options": dict(options),
        "trunk_state": frozen_digest(tower),
        "dataset": dataset.checksum,
        "items": hashlib.sha256(np.ascontiguousarray(item_keys).tobytes()).hexdigest(),
        "microlens": microlens.__version__,
    }


def _with_content(
    dataset: Dataset, encoder: str, needs: frozenset[str], missing: str
) -> tuple[Int64, dict[str, list[Id]]]:
    """The numbers (N+1,) of the items with the content that ``encoder`` needs, 0 first; ids of the others by kind."""
    items = dataset.items
    present = np.ones(len(items), bool)
    left_out: dict[str, list[Id]] = {}
    for kind in sorted(needs):
        has_kind = items[kind].to_numpy()
        present &= has_kind
        if not has_kind.all():
            left_out[kind] = dataset.item_ids.filter(pl.Series(~has_kind)).to_list()
    if not present.any():
        raise InputError(f"{dataset.folder}: no item has {' and '.join(sorted(needs))}, which {encoder} needs.")
    if left_out and missing == "error":
        told = "; ".join(
            f"{len(ids):,} of {len(items):,} items have no {kind} ({_some(ids)})" for kind, ids in left_out.items()
        )
        raise InputError(f"{dataset.folder}: {told}, which {encoder} needs; leave them out with missing='skip'.")
    return np.append(0, np.flatnonzero(present) + 1), left_out


def _some(ids: list[Id]) -> str:
    more = f" and {len(ids) - 5:,} more" if len(ids) > 5 else ""
    return f"items {', '.join(map(str, ids[:5]))}{more}"


def _publish(rows: Path, path: Path, item_ids: ItemIds, provenance: dict[str, Any]) -> None:
    """Move the finished array in the folder ``rows`` to ``path``, after its ids and provenance are written."""
    with atomic_write(path.with_suffix(".ids.npy")) as temporary, temporary.open("wb") as file:
        np.save(file, item_ids.astype(np.str_) if item_ids.dtype == object else item_ids)
    write_text(path.with_suffix(".json"), json.dumps(provenance, indent=1) + "\n")
    (rows / "0.npy").replace(path)


def _weights(encoder: str, weights: str, seed: int) -> dict[str, Any]:
    """Where the weights come from, for the provenance."""
    return {
        "weights": weights,
        "weights_sha256": _file_digest(encoder, weights),
        "seed": seed if weights == "random" else None,
    }


def _file_digest(encoder: str, weights: str) -> str | None:
    """SHA-256 of the weights file; None if the weights do not come from a file."""
    if weights == "random":
        return None
    if weights != "default":
        return sha256(Path(weights).expanduser())
    return sha256(OFFICIAL[encoder].path) if encoder in OFFICIAL else None


def _digest(facts: Mapping[str, Any]) -> str:
    return digest_of(facts)[:12]
