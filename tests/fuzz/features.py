"""Damaged features, of one vector per item and of several."""

from pathlib import Path

import numpy as np

from microlens.data.feature_matrix import load_features
from microlens.data.feature_sequences import FeatureSequences
from tests.fuzz.damage_files import copy, damage_one
from tests.fuzz.mutations import Random, damage
from tests.fuzz.target import Target

ITEMS, SIZE = 20, 6
TOKENS = [
    b"'descr'", b"'<f4'", b"'|O'", b"'>f8'", b"'<i8'", b"'fortran_order'", b"True", b"False", b"'shape'", b"(20, 6)",
    b"(20,)", b"(20, 3, 6)", b"(20, 6, 3)", b"(20, 18)", b"(360, 1, 1)", b"'<f2'",
    b"(999999999999, 6)", b"(-1, 6)", b"(0, 6)", b"()", b"\x93NUMPY", b"\x01\x00", b"\x03\x00",
    b"__import__('os')", b"1e9",
]  # fmt: skip


class Features(Target):
    """``x.npy`` and ``x.ids.npy``."""

    name = "features"

    def prepare(self, folder: Path) -> None:
        """Numbers that say whose they are."""
        (folder / "whole").mkdir()
        ids = np.random.default_rng(0).permutation(ITEMS) + 1
        np.save(folder / "whole" / "x.npy", (ids[:, None] * np.ones(SIZE)).astype(np.float32))
        np.save(folder / "whole" / "x.ids.npy", ids)

    def make(self, folder: Path, random: Random) -> str:
        """Damage one of the two, its header above all."""
        copy(self.seeds / "whole", folder / "whole")
        if random.random() < 0.4:
            return damage_one(folder / "whole", random)
        path = folder / "whole" / ("x.npy", "x.ids.npy")[int(random.integers(2))]
        data = path.read_bytes()
        path.write_bytes(damage(data[:128], random, tokens=TOKENS) + data[128:])
        return f"the header of {path.name}"

    def read(self, folder: Path, random: Random) -> str | None:
        """A row an item, of numbers."""
        wanted = np.sort(random.permutation(ITEMS)[:5]) + 1
        rows = load_features(folder / "whole" / "x.npy", wanted)
        assert rows.dtype == np.float32, rows.dtype
        assert len(rows) == len(wanted), rows.shape
        assert rows.ndim == 2, rows.shape
        assert np.isfinite(rows).all(), "not finite"


class Sequences(Features):
    """The same two files, of several vectors per item."""

    name = "sequences"

    def prepare(self, folder: Path) -> None:
        """Numbers that say whose they are, some of them missing."""
        (folder / "whole").mkdir()
        ids = np.random.default_rng(0).permutation(ITEMS) + 1
        vectors = (ids[:, None, None] * np.ones((3, SIZE))).astype(np.float16)
        vectors[::4, 1] = np.nan
        np.save(folder / "whole" / "x.npy", vectors)
        np.save(folder / "whole" / "x.ids.npy", ids)

    def read(self, folder: Path, random: Random) -> str | None:
        """Vectors of numbers for each item, at least one of them present."""
        wanted = np.sort(random.permutation(ITEMS)[:5]) + 1
        file = FeatureSequences(folder / "whole" / "x.npy", wanted)
        vectors = file.read(np.arange(1, 6))
        assert vectors.shape == (5, file.num_vectors, file.feature_dim), vectors.shape
        assert file.present.any(axis=1).all(), "an item has no vector"
        assert np.isfinite(vectors).all(), "not finite"
