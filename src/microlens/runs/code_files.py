"""Codes of items as files for the model ``tiger``, with their provenance and a report."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import microlens
from microlens import environment
from microlens.building import pick
from microlens.data.dataset import Dataset
from microlens.data.feature_matrix import load_all_features
from microlens.data.interactions import ItemIds
from microlens.data.item_codes import load_codes
from microlens.data.protocol import Protocol
from microlens.distributed import local_device
from microlens.errors import InputError
from microlens.files.json_files import read_json
from microlens.files.progress_bar import OnProgress
from microlens.files.writing import (
    atomic_write,
    claim_folder,
    digest_of,
    lock_folder,
    remove_folder,
    sha256,
    write_text,
)
from microlens.quantization.kmeans import Float32, Quantized, random_codes, residual_kmeans
from microlens.quantization.report import CodeReport, break_ties, report_codes
from microlens.quantization.rqvae import train_rqvae
from microlens.seeds import checked_seed

Method = Literal["kmeans", "balanced-kmeans", "rqvae", "random"]

_TRAINING = "rqvae.safetensors"
_METHODS: dict[str, Callable[..., Quantized]] = {
    "kmeans": partial(residual_kmeans, balanced=False),
    "balanced-kmeans": partial(residual_kmeans, balanced=True),
    "rqvae": train_rqvae,
    "random": random_codes,
}


@dataclass(frozen=True, kw_only=True)
class CodeFiles:
    """Codes on disk: ``NAME.npy`` (N, C + 1), with ``NAME.ids.npy`` (N,) and ``NAME.json`` next to it.

    The last code tells items with equal codes apart. ``provenance`` is the content of ``NAME.json``: the inputs, the
    software and the report.
    """

    path: Path
    provenance: dict[str, Any]
    report: CodeReport

    @property
    def config(self) -> str:
        """The TOML lines of a configuration that uses the codes."""
        return f'[model]\nname = "tiger"\ncodes = {json.dumps(str(self.path))}\n\n[train]\nloss = "likelihood"'


def write_codes(
    features: str | Path,
    *,
    method: Method = "balanced-kmeans",
    levels: int = 3,
    codes: int = 256,
    seed: int = 0,
    epochs: int = 60,
    dataset: str | Path | None = None,
    out: str | Path | None = None,
    on_progress: OnProgress | None = None,
) -> CodeFiles:
    """Quantise the features of every item into codes, or read those made before.

    Files are written atomically. An interrupted training of an RQ-VAE resumes.

    Args:
        features: ``NAME.npy`` with ``NAME.ids.npy``, as :func:`write_features` writes them.
        method: "kmeans", "balanced-kmeans" (see :func:`microlens.quantization.kmeans.residual_codebooks`), "rqvae" (see
            :class:`microlens.quantization.rqvae.RQVAE`), or "random" (see
            :func:`microlens.quantization.kmeans.random_codes`).
        levels: C, the number of codes of an item, besides the one that breaks ties.
        codes: number of codes of a level.
        seed: seed of the first centroids, or of the RQ-VAE.
        epochs: passes of the RQ-VAE over the features.
        dataset: folder of a prepared dataset, whose items without training interactions the report then compares with
            the others.
        out: folder of the files; that of the features by default.
        on_progress: called with (done, total) levels or epochs.

    Raises:
        InputError: a file is missing or damaged, an argument is out of range, or files of the same name were made from
            other inputs.
    """
    seed = checked_seed(seed)
    features = Path(features)
    quantize = pick(_METHODS, method, "method")
    item_ids, vectors = load_all_features(features)
    opened = Dataset(dataset) if dataset is not None else None
    named = {
        "features": features.name,
        "method": method,
        "levels": levels,
        "codes": codes,
        "seed": seed,
        "epochs": epochs if method == "rqvae" else None,
        "dataset": opened.checksum if opened else None,
        "microlens": microlens.__version__,
    }
    identity = {**named, "features_sha256": sha256(features)}  # in no name: another machine's features differ in bits
    out = features.parent if out is None else Path(out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{features.stem}-{method}-{digest_of(named)[:12]}.npy"
    working = out / f".{path.stem}.partial"
    claim_folder(working)
    with lock_folder(working):
        if not path.exists():
            given: dict[str, Any] = {"epochs": epochs, "saved": working / _TRAINING} if method == "rqvae" else {}
            try:
                found = quantize(vectors, levels=levels, num_codes=codes, seed=seed, on_progress=on_progress, **given)
            except ValueError as error:
                raise InputError(f"{error}.") from None
            is_new = _without_train_interactions(opened, item_ids) if opened else None
            _write(path, found, vectors, item_ids, identity, is_new)
        remove_folder(working, (_TRAINING,))
    return _read(path, item_ids, identity)


def _without_train_interactions(dataset: Dataset, item_ids: ItemIds) -> npt.NDArray[np.bool_]:
    """True for the items that do not occur in the train part of the leave-one-out split: (N,)."""
    split = dataset.split(Protocol())
    known = dataset.item_id_array(split.items_kept)[split.train_counts > 0]
    return np.isin(item_ids, known, invert=True)


def _write(
    path: Path,
    found: Quantized,
    vectors: Float32,
    item_ids: ItemIds,
    identity: dict[str, Any],
    is_new: npt.NDArray[np.bool_] | None,
) -> None:
    provenance = {
        **identity,
        "report": asdict(report_codes(found.codes, vectors, found.restored, is_new)),
        "made_by": environment.describe(local_device("cpu")),
    }
    ids = item_ids.astype(np.str_) if item_ids.dtype == object else item_ids
    write_text(path.with_suffix(".json"), json.dumps(provenance, indent=1) + "\n")
    for target, values in ((path.with_suffix(".ids.npy"), ids), (path, break_ties(found.codes).astype(np.int32))):
        with atomic_write(target) as temporary, temporary.open("wb") as file:
            np.save(file, values)


def _read(path: Path, item_ids: ItemIds, identity: dict[str, Any]) -> CodeFiles:
    """Check finished codes against their inputs."""
    note, remedy = path.with_suffix(".json"), f"remove {path} to make it again"
    provenance = read_json(note, dict[str, Any], remedy)
    if any(provenance.get(name) != value for name, value in identity.items()):
        raise InputError(f"{path} was made from other inputs, see {note.name}; remove it or choose another folder.")
    report = read_json(note, _Note, remedy).report
    load_codes(path, item_ids)
    return CodeFiles(path=path, provenance=provenance, report=report)


@dataclass(frozen=True)
class _Note:
    """The part of the provenance that is shown."""

    report: CodeReport
