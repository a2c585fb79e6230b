"""Shards of decoded media: the same dataset by way of them, and what becomes of damaged ones."""

import hashlib
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from microlens.data import media_shards
from microlens.data.prepare import prepare
from microlens.engines.local import LocalEngine
from microlens.errors import InputError
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
from microlens.release.synthetic import write_release
from tests.data.worker_tasks import DEADLY, deadly_decode, logged_decode

pytest.importorskip("fsspec", reason="the extra [scale] is not installed")
SETTINGS = Settings(clips=ClipSettings(num_frames=2, size=32), cover_size=32)
ITEMS = 14
NUM_SHARDS = 3


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "release"
    write_release(folder, users=12, items=ITEMS, seed=1, workers=1)
    (folder / "videos" / "3.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def undisturbed(release: Path) -> dict[str, str]:
    prepare(release, release.parent / "undisturbed", SETTINGS, workers=1)
    return bytes_of(release.parent / "undisturbed")


@pytest.fixture(scope="module")
def finished(release: Path) -> Path:
    """A folder of shards."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(media_shards, "ITEMS_PER_SHARD", 5)
        prepare_by_shards(release, release.parent)
    return release.parent / "shards"


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_shards, "ITEMS_PER_SHARD", 5)


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many files have been decoded since."""
    log = tmp_path / "decoded.txt"
    monkeypatch.setenv("DECODED", str(log))
    monkeypatch.setattr(media_shards, "decode", logged_decode)

    def since() -> int:
        lines = log.read_text().splitlines() if log.exists() else []
        log.write_text("")
        return len(lines)

    return since


def bytes_of(dataset: Path) -> dict[str, str]:
    """The SHA-256 of every file of a dataset."""
    return {
        str(path.relative_to(dataset)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(dataset.rglob("*"))
        if path.is_file()
    }


def prepare_by_shards(release: Path, folder: Path, **options: Any) -> dict[str, str]:
    prepare(release, folder / "dataset", SETTINGS, workers=2, shards=str(folder / "shards"), **options)
    return bytes_of(folder / "dataset")


def shards_in(folder: Path) -> list[Path]:
    return sorted((folder / "shards").rglob("*.zip"))


def test_the_order_of_decoding_does_not_show_in_the_bytes(
    release: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    prepare(release, tmp_path / "dataset", SETTINGS, workers=2)
    assert bytes_of(tmp_path / "dataset") == undisturbed
    assert {"clips.lmdb", "covers.lmdb", "sound.lmdb", "manifest.json"} <= undisturbed.keys()


def test_shards_make_the_same_bytes(release: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = prepare_by_shards(release, tmp_path, on_progress=lambda done, total: seen.append((done, total)))
    assert found == undisturbed
    assert seen[-1] == (3 * ITEMS, 3 * ITEMS)
    assert len(shards_in(tmp_path)) == NUM_SHARDS
    assert [path.suffix for path in (tmp_path / "shards").rglob("*") if path.is_file()] == [".zip"] * NUM_SHARDS


def test_shards_make_the_dataset_elsewhere_without_decoding(
    release: Path, undisturbed: dict[str, str], finished: Path, tmp_path: Path, decoded: Callable[[], int]
) -> None:
    shutil.copytree(finished, tmp_path / "shards")
    assert prepare_by_shards(release, tmp_path) == undisturbed
    assert decoded() == 0


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_shard_is_written_again_and_no_other(
    release: Path,
    undisturbed: dict[str, str],
    finished: Path,
    tmp_path: Path,
    decoded: Callable[[], int],
    damage: str,
) -> None:
    shutil.copytree(finished, tmp_path / "shards")
    _, shard, _ = shards_in(tmp_path)
    content = bytearray(shard.read_bytes())
    shard.unlink()
    if damage == "cut":
        shard.write_bytes(content[:-100])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    assert prepare_by_shards(release, tmp_path) == undisturbed
    assert decoded() == 3 * 5


def test_other_settings_have_other_shards(release: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "shards")
    other = Settings(clips=ClipSettings(num_frames=1, size=32), cover_size=32)
    prepare(release, tmp_path / "dataset", other, workers=1, shards=str(tmp_path / "shards"))
    assert len(shards_in(tmp_path)) == 2 * NUM_SHARDS


def test_files_that_kill_their_decoder_are_faults(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_shards, "decode", deadly_decode)
    dataset = prepare(release, tmp_path / "dataset", SETTINGS, workers=1, shards=str(tmp_path / "shards"))
    faults = {fault["item"]: fault["fault"] for fault in dataset.manifest["faults"] if fault["kind"] == "clips"}
    assert {item: faults[item] for item in DEADLY} == dict.fromkeys(
        DEADLY, "decoding it kills the process (exit status 9)"
    )


def test_shards_that_only_the_task_sees_are_an_error(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_shards, "write_bytes", lambda address, content: None)
    with pytest.raises(InputError, match="name a folder or bucket that all machines share"):
        prepare_by_shards(release, tmp_path)


def test_a_preparation_that_was_begun_without_shards_goes_on_with_them(
    release: Path, undisturbed: dict[str, str], tmp_path: Path, decoded: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StoppedError

    monkeypatch.setattr("microlens.data.media_stores._ITEMS_PER_COMMIT", ITEMS)
    with pytest.raises(StoppedError):  # all videos are decoded
        prepare(release, tmp_path / "dataset", SETTINGS, workers=1, on_progress=stop)
    seen: list[int] = []
    assert prepare_by_shards(release, tmp_path, on_progress=lambda done, total: seen.append(done)) == undisturbed
    assert seen[-1] == 3 * ITEMS


def test_local_shards_are_written_by_several_processes(release: Path, tmp_path: Path) -> None:
    """A shard is the work of one task, whatever the engine."""
    tasks = [media_shards.Shard(str(tmp_path / f"{number}.zip"), ()) for number in range(3)]
    write = partial(media_shards.write_shard, settings=SETTINGS)
    assert len(list(LocalEngine(2).map_shards(write, tasks))) == 3
    assert all(media_shards.read_shard(shard) == [] for shard in tasks)
