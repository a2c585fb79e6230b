"""The split of a large dataset, stored in its folder and memory-mapped by the commands that open it next."""

import hashlib
import json
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from microlens.data.arrays import open_array
from microlens.data.interactions import Interactions
from microlens.data.protocol import Protocol
from microlens.data.split import Split, make_split
from microlens.errors import InputError
from microlens.files.json_files import read_json
from microlens.files.writing import atomic_write, digest_of, lock_folder, write_text

FEWEST_EVENTS = 1_000_000
"""Splits of fewer interactions are computed anew: .03 s of CPU with the paper's protocol, .3 s with random ones."""
VERSION = 1
"""To be raised by every change of :mod:`microlens.data.split` that changes a split, or of the files."""
ARRAYS: dict[str, npt.DTypeLike] = {
    "sequences": np.int32,
    "offsets": np.int64,
    "train_ends": np.int64,
    "valid_ends": np.int64,
    "items_kept": np.int64,
    "users_kept": np.int64,
}
"""The arrays of :class:`microlens.data.split.Split`, one file each, and their types."""
_NOTE = "split.json"


@dataclass(frozen=True)
class _Note:
    """The digest of everything that a split depends on, and the CRC-32 of its arrays."""

    key: str
    crc32: dict[str, int]


def stored_split(
    folder: Path,
    checksum: str,
    interactions: Interactions,
    protocol: Protocol,
    excluded: npt.NDArray[np.bool_],
) -> Split:
    """The split that :func:`microlens.data.split.make_split` makes, mapped from ``folder`` if it is stored there.

    Otherwise it is made and, if ``folder`` can be written, stored; a stored split of other data, of another protocol or
    version, and a damaged one are replaced.

    Args:
        folder: folder of this split, which need not exist.
        checksum: the checksum of the dataset.
        interactions: all interactions.
        protocol: protocol to apply.
        excluded: (N+1,) boolean mask of item numbers to remove because they lack content.

    Raises:
        InputError: as :func:`microlens.data.split.make_split`.
    """
    key = _key(checksum, interactions, protocol, excluded)
    split = _stored(folder, key, protocol)
    if split is None:
        split = make_split(interactions, protocol, excluded)
        with suppress(InputError, OSError):  # another process is storing it, or the folder cannot be written
            _store(folder, key, split)
    return split


def _key(checksum: str, interactions: Interactions, protocol: Protocol, excluded: npt.NDArray[np.bool_]) -> str:
    """A digest of all that the split depends on."""
    read = {"offsets": interactions.offsets, "items": interactions.items, "excluded": excluded}
    if protocol.split == "global-time":
        read["times"] = interactions.times
    if protocol.split == "given" and interactions.split is not None:
        read["split"] = interactions.split
    facts = {
        "version": VERSION,
        "numpy": np.__version__,  # whose random numbers some protocols draw
        "dataset": checksum,
        "protocol": asdict(protocol),
        **{name: hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() for name, array in read.items()},
    }
    return digest_of(facts)


def _stored(folder: Path, key: str, protocol: Protocol) -> Split | None:
    try:
        note = read_json(folder / _NOTE, _Note, "it is made again")
        arrays: dict[str, Any] = {
            name: np.asarray(open_array(folder / f"{name}.npy", ndim=1, dtype=dtype)) for name, dtype in ARRAYS.items()
        }
    except (InputError, OSError):
        return None
    if note != _Note(key, {name: zlib.crc32(array.data) for name, array in arrays.items()}):
        return None
    return Split(protocol=protocol, **arrays)


def _store(folder: Path, key: str, split: Split) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder):
        checks = {}
        for name, dtype in ARRAYS.items():
            array = np.ascontiguousarray(getattr(split, name), dtype)
            checks[name] = zlib.crc32(array.data)
            with atomic_write(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, array, allow_pickle=False)
        write_text(folder / _NOTE, json.dumps(asdict(_Note(key, checks))) + "\n")
