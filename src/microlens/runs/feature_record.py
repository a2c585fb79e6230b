"""Finished feature files and their provenance."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microlens.data.arrays import read_header
from microlens.data.feature_matrix import load_features
from microlens.data.feature_sequences import FeatureSequences
from microlens.data.interactions import ItemIds
from microlens.errors import InputError
from microlens.files.json_files import read_json


@dataclass(frozen=True, kw_only=True)
class FeatureFiles:
    """Features on disk: ``NAME.npy``, with ``NAME.ids.npy`` (N,) and ``NAME.json`` next to it.

    One vector per item is (N, E) float32; several, of layers or frames, are (N, T, E) float16. ``provenance`` is the
    content of ``NAME.json``: the inputs and the software that produced the features.
    """

    path: Path
    provenance: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, E) or (N, T, E)."""
        return read_header(self.path).shape

    @property
    def config(self) -> str:
        """The TOML lines of a configuration that uses the features."""
        readers = {"layers": "layer_mix", "per_frame": "attention_pool"}
        name = next((reader for key, reader in readers.items() if key in self.provenance), "features")
        lines = f'[encoder]\nname = "{name}"\npath = {json.dumps(str(self.path))}'
        left_out = list(self.provenance["left_out"])
        return f"[protocol]\nrequire = {json.dumps(left_out)}\n\n{lines}" if left_out else lines


def read_finished(path: Path, identity: dict[str, Any], item_ids: ItemIds) -> dict[str, Any]:
    """Check finished features against their inputs and return their provenance."""
    note = path.with_suffix(".json")
    provenance = read_json(note, dict[str, Any], f"remove {path} to compute it again")
    other = next((name for name, value in identity.items() if provenance.get(name) != value), None)
    if other is not None:
        raise InputError(
            f"{path} was computed from other inputs: {note.name} has {other} = {provenance.get(other)!r}, requested is "
            f"{identity[other]!r}; remove it or choose another folder."
        )
    read_json(note, _Shown, f"remove {path} to compute it again")
    several = "layers" in identity or "per_frame" in identity
    (FeatureSequences if several else load_features)(path, item_ids)
    return provenance


@dataclass(frozen=True)
class _Shown:
    """Fields of the provenance that are shown, besides the inputs."""

    num_items: int
    feature_dim: int
    weights: str
    left_out: dict[str, list[int | str]]
