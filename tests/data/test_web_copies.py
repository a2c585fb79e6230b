"""Copies of a dataset's videos: only those that are needed and missing, and the feed serves them."""

from pathlib import Path

import pytest

from microlens import Dataset, prepare, write_web_copies
from microlens.data.web_copies import WEB_COPIES
from microlens.errors import InputError
from microlens.feed.catalogue import Catalogue
from microlens.feed.settings import FeedSettings
from microlens.files.writing import lock_folder
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
from tests.conftest import write_pairs
from tests.videos import encode


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 12 items: the video of item 3 is H.264, of 5 HEVC, of 7 and 8 no video at all."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "release" / "videos").mkdir(parents=True)
    write_pairs(folder / "release", [list(range(1, 13))] * 3)
    videos = folder / "release" / "videos"
    encode(videos / "3.mp4", count=10)
    encode(videos / "5.mp4", "hevc, one keyframe", count=10)
    for name in ("7.mp4", "8.mp4", "99.mp4"):
        (videos / name).write_text("this is no video")
    prepare(folder / "release", folder / "dataset", Settings(clips=ClipSettings(num_frames=1, size=8)), workers=1)
    return folder


def test_only_what_is_needed_and_missing_is_copied(world: Path) -> None:
    dataset, copies = world / "dataset", world / "dataset" / WEB_COPIES
    done: list[tuple[int, int]] = []
    first = write_web_copies(world / "release", dataset, workers=1, on_progress=lambda *now: done.append(now))
    assert (first.present, first.written, first.playable) == (0, 1, 1)
    assert [(item, path.name, copied) for item, path, _, copied in first.faults] == [
        (7, "7.mp4", False), (8, "8.mp4", False),
    ]  # fmt: skip
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [path.name for path in sorted(copies.glob("*.mp4"))] == ["5.mp4"]
    before = (copies / "5.mp4").stat().st_mtime_ns
    again = write_web_copies(world / "release", dataset, workers=1)
    assert (again.present, again.written, again.playable) == (1, 0, 1)
    assert (copies / "5.mp4").stat().st_mtime_ns == before

    catalogue = Catalogue(Dataset(dataset), world / "release", FeedSettings())
    assert catalogue.item(5).video == copies / "5.mp4"
    assert [number for number in range(1, 13) if catalogue.item(number).playable] == [3, 5]
    (copies / "5.mp4").unlink()
    assert [number for number in range(1, 13) if catalogue.item(number).playable] == [3]
    assert catalogue.item(5).video == world / "release" / "videos" / "5.mp4"


def test_a_release_of_other_items_is_refused(world: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_pairs(tmp_path, [[1, 2]])
    encode(tmp_path / "videos" / "77.mp4", count=2)
    with pytest.raises(InputError, match=r"has no video of an item of .*dataset"):
        write_web_copies(tmp_path, world / "dataset")


def test_two_processes_do_not_write_the_same_copies(world: Path) -> None:
    folder = world / "dataset" / WEB_COPIES
    folder.mkdir(exist_ok=True)
    with lock_folder(folder), pytest.raises(InputError, match="another process"):
        write_web_copies(world / "release", world / "dataset", workers=1)
