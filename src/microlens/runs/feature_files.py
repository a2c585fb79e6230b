"""Frozen features of a whole catalogue as files that the encoder ``features`` reads, and what they were made of."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch

import microlens
from microlens import environment
from microlens.building import build, nearest, options_of, pick
from microlens.config.toml_files import toml_value
from microlens.data.content import ItemContent
from microlens.data.dataset import Dataset
from microlens.data.feature_matrix import load_features
from microlens.data.interactions import Int64, ItemIds
from microlens.distributed import local_device
from microlens.encoders import CONTENT_ENCODERS, ENCODERS
from microlens.encoders.content import ContentEncoder
from microlens.encoders.image import IMAGE_NETWORKS
from microlens.encoders.text import BERT_SMALL_WEIGHTS
from microlens.encoders.video import VIDEO_NETWORKS
from microlens.encoders.weights import Official
from microlens.errors import InputError
from microlens.files.json_files import read_json
from microlens.files.writing import MARK, atomic_write, claim_folder, lock_folder, remove_folder, sha256, write_text
from microlens.release.ids import Id
from microlens.runs.assembly import dataset_arguments
from microlens.training.extraction import WRITTEN, OnProgress, extract
from microlens.training.trunk_cache import frozen_digest

OFFICIAL: dict[str, Official] = {
    **{name: network.official for name, network in VIDEO_NETWORKS.items()},
    **{name: network.official for name, network in IMAGE_NETWORKS.items()},
    "bert_small": BERT_SMALL_WEIGHTS,
}
# Options of an encoder that say nothing about its features, or that are said otherwise.
NO_OPTIONS = {"weights", "head", "missing"}
READERS = 4  # threads that decode stored pictures


@dataclass(frozen=True, kw_only=True)
class FeatureFiles:
    """Features on disk: ``NAME.npy`` (N, E) float32, beside it ``NAME.ids.npy`` (N,) and ``NAME.json``.

    ``provenance`` is the content of the last, all that the features were made of and by.
    """

    path: Path
    provenance: dict[str, Any]

    @property
    def config(self) -> str:
        """The lines of a configuration that use the features."""
        lines = f'[encoder]\nname = "features"\npath = {json.dumps(str(self.path))}'
        left_out = list(self.provenance["left_out"])
        return f"[protocol]\nrequire = {json.dumps(left_out)}\n\n{lines}" if left_out else lines


def write_features(
    folder: Path,
    encoder: str,
    *,
    weights: str | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    out: Path | None = None,
    missing: Literal["error", "skip"] = "error",
    on_progress: OnProgress | None = None,
) -> FeatureFiles:
    """Compute what ``encoder``'s network makes of every item of a dataset, or read what was computed before.

    The features are those of the trunk, as it pools them, before the projection. Files appear whole or not at all;
    stopped in the middle and started again, the work goes on, and gives the same bits on the same machine.

    Args:
        folder: a prepared dataset.
        encoder: the name of an encoder that sees content.
        weights: "random", "default" or a path; None is the encoder's own default.
        seed: decides random weights; a run with this seed draws the same.
        options: of the encoder, as a configuration has them.
        out: where the files go, by default ``features`` in the dataset.
        missing: whether items without the content are an error or left out.
        on_progress: called with (done, total) items.

    Raises:
        InputError: the encoder, an option or the weights are wrong, content is missing, or files of these names were
            made of something else.
    """
    dataset = Dataset(folder)
    tower, chosen = _frozen_tower(dataset, encoder, weights, seed, options or {})
    numbers, left_out = _with_content(dataset, encoder, tower.needs, missing)
    item_keys = dataset.interactions.item_ids[numbers]
    identity = _identity(dataset, tower, encoder, options or {}, item_keys[1:])
    out = out or folder / "features"
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{encoder}-{_digest(identity)}.npy"
    working = out / f".{path.stem}.partial"
    claim_folder(working)
    with lock_folder(working):
        if not path.exists():
            device = local_device("auto")
            provenance = {
                **identity,
                "weights": chosen,
                "weights_sha256": _file_digest(encoder, chosen),
                "seed": seed if chosen == "random" else None,
                "settings": dataset.manifest["settings"],
                "num_items": len(numbers) - 1,
                "feature_dim": tower.trunk.feature_dim,
                "left_out": left_out,
                "made_by": environment.describe(device),
            }
            _compute(tower, dataset, numbers, device, provenance, working, path, on_progress)
        remove_folder(working, [f"*/{name}" for name in (*WRITTEN, MARK)])
    return FeatureFiles(path=path, provenance=_read_finished(path, identity, dataset.item_id_array(numbers[1:])))


def read_options(assignments: Iterable[str]) -> dict[str, Any]:
    """Options of an encoder from ``key=value``.

    Raises:
        InputError: one of them has no ``=``, or more than one value.
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
    """The encoder with its trunk frozen, and the weights it has: "random", "default" or a path."""
    constructor = _content_encoder(name)
    given = {**dataset_arguments(dataset, np.arange(dataset.interactions.num_items + 1)), "dim": 1}
    schemas = options_of(constructor, given)
    accepted = {option for option, schema in schemas.items() if schema.group is None} - NO_OPTIONS
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


def _content_encoder(name: str) -> Callable[..., Any]:
    if name in ENCODERS and name not in CONTENT_ENCODERS:
        raise InputError(f"encoder is '{name}', which sees no content; accepted: {', '.join(CONTENT_ENCODERS)}.")
    return pick(CONTENT_ENCODERS, name, "encoder")


def _identity(
    dataset: Dataset, tower: ContentEncoder, encoder: str, options: Mapping[str, Any], item_keys: Int64
) -> dict[str, Any]:
    """All that the features depend on."""
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
    """The numbers (N+1,) of the items that have what ``encoder`` needs, 0 first, and by kind the ids of the others."""
    items = dataset.items
    present = np.ones(len(items), bool)
    left_out: dict[str, list[Id]] = {}
    for kind in sorted(needs):
        has_kind = items[kind].to_numpy()
        present &= has_kind
        if not has_kind.all():
            left_out[kind] = dataset.item_ids.filter(pl.Series(~has_kind)).to_list()
    if not needs and items["title"].null_count() == len(items):
        raise InputError(f"{dataset.folder}: no item has a title, which {encoder} needs.")
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


def _compute(
    tower: ContentEncoder,
    dataset: Dataset,
    numbers: Int64,
    device: torch.device,
    provenance: dict[str, Any],
    working: Path,
    path: Path,
    on_progress: OnProgress | None,
) -> None:
    """Leave the features at ``path``, with their ids and provenance beside them, which are there before they are."""

    content = ItemContent(dataset, dataset.interactions.item_ids[numbers], tower.needs, READERS)
    # Named by machine and versions too: what was begun elsewhere is not gone on with, the bits might differ.
    rows = working / _digest(provenance)
    extract(tower.frozen_state, content, len(numbers) - 1, rows, provenance, device=device, on_progress=on_progress)
    with atomic_write(path.with_suffix(".ids.npy")) as temporary, temporary.open("wb") as file:
        item_ids = dataset.item_id_array(numbers[1:])
        np.save(file, item_ids.astype(np.str_) if item_ids.dtype == object else item_ids)
    write_text(path.with_suffix(".json"), json.dumps(provenance, indent=1) + "\n")
    (rows / "0.npy").replace(path)


def _read_finished(path: Path, identity: dict[str, Any], item_ids: ItemIds) -> dict[str, Any]:
    """The provenance of finished features, after a look at whether they are what they should be."""
    note = path.with_suffix(".json")
    provenance = read_json(note, dict[str, Any], f"remove {path}, and it is made again")
    other = next((name for name, value in identity.items() if provenance.get(name) != value), None)
    if other is not None:
        raise InputError(
            f"{path} was made of something else: {note.name} says {other} = {provenance.get(other)!r}, asked for is "
            f"{identity[other]!r}; remove it or choose another folder."
        )
    read_json(note, _Shown, f"remove {path}, and it is made again")
    load_features(path, item_ids)
    return provenance


@dataclass(frozen=True)
class _Shown:
    """What is told of finished features besides what they depend on."""

    num_items: int
    feature_dim: int
    weights: str
    left_out: dict[str, list[int | str]]


def _file_digest(encoder: str, weights: str) -> str | None:
    """The SHA-256 of the file that the weights came from, if they came from one file."""
    if weights == "random":
        return None
    if weights != "default":
        return sha256(Path(weights).expanduser())
    return sha256(OFFICIAL[encoder].path) if encoder in OFFICIAL else None


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
