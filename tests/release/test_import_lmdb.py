"""LMDB files of the original code become media files of a release, which is prepared like any other."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from microlens.data.prepare import prepare
from microlens.errors import InputError
from microlens.media.packing import unpack_images
from microlens.media.reading import ClipSettings, read_clip
from microlens.media.store import Store
from microlens.release.import_lmdb import import_lmdb
from tests.conftest import write_pairs
from tests.data.test_prepare import run_command
from tests.media.test_original_values import Call, explode, pictures
from tests.reference.original_lmdb import cover_value, folded_frames, frames_value, write_lmdb

ITEMS = (1, 7, 20, 300, 45678)


def smooth(number: int, seed: int) -> NDArray[np.uint8]:
    """Pictures without fine detail, which JPEG keeps."""
    colours = np.random.default_rng(seed).integers(40, 215, (number, 4, 4, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(picture).resize((224, 224))) for picture in colours])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def clips() -> dict[int, NDArray[np.uint8]]:
    return {item: smooth(5, item) for item in ITEMS}


@pytest.fixture(scope="module")
def frames_lmdb(tmp_path_factory: pytest.TempPathFactory, clips: dict[int, NDArray[np.uint8]]) -> Path:
    path = tmp_path_factory.mktemp("original") / "frames.lmdb"
    return write_lmdb(path, {item: frames_value(images) for item, images in clips.items()})


def test_frames_become_videos_with_these_pixels(
    tmp_path: Path, frames_lmdb: Path, clips: dict[int, NDArray[np.uint8]]
) -> None:
    steps: list[tuple[int, int]] = []
    done = import_lmdb(frames_lmdb, tmp_path / "release", workers=1, on_progress=lambda *step: steps.append(step))
    assert (done.kind, done.written, done.kept, done.folded, done.faults) == ("clips", 5, 0, 0, {})
    assert steps == [(number, 5) for number in range(1, 6)]
    assert names(tmp_path / "release/videos") == {f"{item}.mkv" for item in ITEMS}
    for item, images in clips.items():
        clip = read_clip(tmp_path / f"release/videos/{item}.mkv", ClipSettings())
        np.testing.assert_array_equal(clip.frames, images)
        assert clip.faults == ()


def test_covers_become_pictures_and_both_are_prepared(
    tmp_path: Path, frames_lmdb: Path, clips: dict[int, NDArray[np.uint8]]
) -> None:
    release = write_pairs(tmp_path / "release", [list(ITEMS)] * 3)
    covers = {item: smooth(1, 100 + item)[0] for item in ITEMS}
    (tmp_path / "covers.lmdb").mkdir()
    lmdb = write_lmdb(tmp_path / "written", {item: cover_value(image) for item, image in covers.items()})
    lmdb.rename(tmp_path / "covers.lmdb/data.mdb")
    done = import_lmdb(tmp_path / "covers.lmdb", release, workers=1)
    assert (done.kind, done.written) == ("covers", 5)
    for item, image in covers.items():
        np.testing.assert_array_equal(np.asarray(Image.open(release / f"covers/{item}.png")), image)
    import_lmdb(frames_lmdb, release, workers=1)
    data = prepare(release, tmp_path / "dataset", workers=1)
    assert data.manifest["faults"] == []
    for kind, expected in (("clips", clips), ("covers", {item: image[None] for item, image in covers.items()})):
        store = Store.open(tmp_path / f"dataset/{kind}.lmdb")
        for item, images in expected.items():
            stored = unpack_images(store.get(item) or b"")
            assert np.abs(stored.astype(int) - images).mean() < 2


def test_an_item_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "exploded"
    good, evil = cover_value(pictures(1)[0]), pickle.dumps(Call(explode, str(mark)))
    cut = pickle.dumps(good)[:-1]
    frames = frames_value(folded_frames(pictures(2)))
    lmdb = write_lmdb(tmp_path / "covers.lmdb", {1: good, 2: evil, 3: cut, 4: frames, 5: good, 6: b""})
    status, out, err = run_command("data", "import-lmdb", lmdb, tmp_path / "release", "--workers", 1)
    assert status == 0, err
    assert not mark.exists()
    assert names(tmp_path / "release") == {"covers"}
    assert names(tmp_path / "release/covers") == {"1.png", "5.png"}
    told = " ".join(out.split())
    assert "2 files written" in told
    assert "fault: item 2 left out: " in told
    assert "explode, which is not run" in told
    assert "item 3 is not a complete pickle" in told
    assert "item 4 holds clips, the first item covers" in told
    assert "folded" not in told


def test_it_goes_on_where_it_was_and_overwrites_nothing(tmp_path: Path, frames_lmdb: Path) -> None:
    import_lmdb(frames_lmdb, tmp_path, workers=1)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "videos").iterdir()}
    (tmp_path / "videos/7.mkv").unlink()
    (tmp_path / "videos/20.mkv").write_bytes(b"my own")
    again = import_lmdb(frames_lmdb, tmp_path, workers=1)
    assert (again.written, again.kept) == (1, 4)
    assert {path.name: path.read_bytes() for path in (tmp_path / "videos").iterdir()} == whole | {"20.mkv": b"my own"}


def test_frames_normalised_twice_are_counted_and_told(tmp_path: Path) -> None:
    values = {item: frames_value(folded_frames(smooth(2, item))) for item in (1, 2)}
    lmdb = write_lmdb(tmp_path / "frames.lmdb", {**values, 3: frames_value(smooth(2, 3))})
    status, out, _ = run_command("data", "import-lmdb", lmdb, tmp_path / "release", "--workers", 1)
    assert status == 0
    assert "note: the frames of 2 items were normalised twice" in " ".join(out.split())


def test_files_that_are_no_such_lmdb_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.lmdb").write_text("no pages")
    empty = write_lmdb(tmp_path / "empty.lmdb", {})
    evil = write_lmdb(tmp_path / "evil.lmdb", {1: pickle.dumps(os.system)})
    for path, words in (
        (tmp_path / "text.lmdb", "not a store that can be opened"),
        (tmp_path / "none.lmdb", "there is no such store"),
        (tmp_path, "there is no such store"),
        (empty, "holds no items"),
        (evil, r"item 1 names posix\.system, which is not run"),
    ):
        with pytest.raises(InputError, match=words):
            import_lmdb(path, tmp_path / "release")
    assert not (tmp_path / "release").exists()
