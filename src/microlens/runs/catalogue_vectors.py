"""The item vectors of a trained run, stored in its folder: a video encoder takes an hour to compute them."""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

import microlens
from microlens.data.arrays import read_header
from microlens.errors import InputError
from microlens.evaluation.ranking import encode_catalogue
from microlens.files.json_files import read_json
from microlens.files.writing import atomic_write, crc32, digest_of, lock_folder, write_text
from microlens.runs.folder import VECTORS
from microlens.training.trunk_cache import digest_of_tensors

if TYPE_CHECKING:
    from microlens.runs.assembly import Experiment

_log = logging.getLogger(__name__)

_ARRAY, _NOTE = "catalogue.npy", "catalogue.json"
# Packages whose code the key covers by version, revision or configuration; any other may change unnoticed.
_KNOWN = {"microlens", "torch", "transformers", "peft"}


@dataclass(frozen=True)
class _Note:
    """What ``catalogue.json`` says of ``catalogue.npy``: the key of everything it depends on, and its CRC-32."""

    key: str
    crc32: int


def catalogue_vectors(run: "Experiment") -> Tensor:
    """The vector of every item of a trained run, read-only: (N+1, D), row 0 being zero.

    Vectors that a network makes of content are stored in the run folder and mapped from there the next time. Files of
    other weights or content, and damaged ones, are replaced. A folder that cannot be written is left as it is.

    Raises:
        InputError: the vector of an item is NaN or infinite; names the item by id.
    """
    if not _are_worth_storing(run):
        return encode_catalogue(run.model, run.content, run.split.num_items, run.device)
    folder, key = run.config.output / VECTORS, _key(run)
    stored = _stored(folder, key)
    if stored is not None:
        return stored.to(run.device)
    vectors = encode_catalogue(run.model, run.content, run.split.num_items, run.device)
    _store(folder, key, vectors)
    return vectors


def _are_worth_storing(run: "Experiment") -> bool:
    packages = {type(module).__module__.partition(".")[0] for module in run.model.modules()}
    return run.model.item_encoder.sees_content and run.best.is_file() and packages <= _KNOWN


def _key(run: "Experiment") -> str:
    """A digest of all that the vectors depend on: weights, content, items, options and code."""
    facts = {
        **run.identity,
        "weights": digest_of_tensors(_tensors(run.model)),
        "items": hashlib.sha256(np.ascontiguousarray(run.split.items_kept).tobytes()).hexdigest(),
        "cache": run.config.train.cache,  # outputs of frozen trunks are rounded there
        "microlens": microlens.__version__,
    }
    return digest_of(facts)


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()  # also those that no checkpoint holds, such as the tokens of titles


def _stored(folder: Path, key: str) -> Tensor | None:
    path, note = folder / _ARRAY, folder / _NOTE
    if not path.exists() and not note.exists():
        return None
    try:
        made = read_json(note, _Note, "it is made again")
        header = read_header(path)
        if made == _Note(key, crc32(path)):
            # Private pages, because PyTorch has no read-only tensors: writing to one would not reach the file.
            return torch.from_numpy(np.memmap(path, header.dtype, "c", header.start, header.shape))
    except (InputError, OSError):
        pass
    _log.warning("%s is damaged, or of other weights or content; all items are encoded again", path)
    return None


def _store(folder: Path, key: str, vectors: Tensor) -> None:
    try:
        folder.mkdir(exist_ok=True)
        with lock_folder(folder):
            with atomic_write(folder / _ARRAY) as temporary:
                with temporary.open("wb") as file:
                    np.save(file, vectors.cpu().numpy())
                note = {"key": key, "crc32": crc32(temporary)}
            write_text(folder / _NOTE, json.dumps(note) + "\n")
    except InputError:  # another process is storing them
        return
    except OSError as error:
        _log.warning("%s cannot be written (%s), so all items are encoded again next time", folder, error.strerror)
