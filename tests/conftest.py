"""Fixtures that several test files use."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from microlens.data.prepare import prepare
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
from microlens.release.synthetic import write_release
from tests.scheduling import BySetUp, in_order

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=in_order)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> BySetUp:
    return BySetUp(config, log)


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


@pytest.fixture
def pytorchvideo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Its models; they import one detection layer of torchvision, unused here, which is stood in for if absent."""
    if importlib.util.find_spec("torchvision") is None:
        ops = ModuleType("torchvision.ops")
        ops.RoIAlign = nn.Identity
        monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
        monkeypatch.setitem(sys.modules, "torchvision.ops", ops)
    pytest.importorskip("pytorchvideo.models.hub", reason="pytorchvideo is not installed (make setup)")
    return sys.modules["pytorchvideo.models"]


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


@pytest.fixture(scope="session")
def video_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 24 users and 14 synthetic videos, in clips of 4 frames of 32 x 32 pixels."""
    folder = tmp_path_factory.mktemp("videos")
    write_release(folder / "release", users=24, items=14, seed=1, workers=1)
    settings = Settings(clips=ClipSettings(num_frames=4, size=32), cover_size=32)
    prepare(folder / "release", folder / "dataset", settings, workers=1)
    return folder / "dataset"
