"""Fixtures that several test files use."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from microlens.data.decoding import Settings
from microlens.data.prepare import prepare

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors, and several test runs may share a machine
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; its tests are marked real_data."""
    folder = Path(os.environ.get("MICROLENS_REAL_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "microlens-50k").is_dir():
        pytest.skip(f"the real MicroLens files are not at {folder} (set MICROLENS_REAL_DATA to where they are)")
    return folder


def write_pairs(folder: Path, sequences: list[list[int]], name: str = "tiny_pairs.tsv") -> Path:
    """A release that holds nothing but interactions: user u (from 1) had ``sequences[u - 1]``, oldest first."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (f"{user}\t{' '.join(map(str, items))}\r\n" for user, items in enumerate(sequences, 1))
    (folder / name).write_text("".join(lines), newline="")
    return folder


def random_sequences(users: int, items: int, seed: int = 0) -> list[list[int]]:
    """Sequences of 5 to 17 distinct items with a long-tailed popularity."""
    rng = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, items + 1)
    weights /= weights.sum()
    lengths = rng.integers(5, min(18, items // 2), users)
    return [(rng.choice(items, length, replace=False, p=weights) + 1).tolist() for length in lengths]


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[[list[list[int]]], Path]:
    """Prepare a dataset of interactions only; returns its folder."""

    def make(sequences: list[list[int]]) -> Path:
        release = write_pairs(tmp_path / "release", sequences)
        prepare(release, tmp_path / "dataset", Settings())
        return tmp_path / "dataset"

    return make
