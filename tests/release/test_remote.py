"""Releases at addresses are read like those in folders."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from microlens.data.prepare import ReleaseSource, prepare
from microlens.errors import InputError
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
from microlens.release.remote import open_release
from microlens.release.synthetic import write_release
from tests.data.test_media_shards import bytes_of

fsspec = pytest.importorskip("fsspec", reason="the extra [scale] is not installed")
SETTINGS = Settings(clips=ClipSettings(num_frames=2, size=32), cover_size=32)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with files of all sorts."""
    folder = tmp_path_factory.mktemp("synthetic") / "release"
    write_release(folder, users=12, items=12, seed=1, workers=1)
    videos = folder / "videos"
    (videos / "more").mkdir()
    for name in ("more/1.mp4", "more/77.mkv", ".hidden.mp4", "notes.txt", "holiday.mp4"):
        (videos / name).write_bytes(b"nothing")
    (videos / "2.mp4").write_bytes(b"")
    (folder / "archive.zip").write_bytes(b"PK")
    return folder


@pytest.fixture
def bucket(release: Path) -> Iterator[str]:
    """The same release in memory."""
    system = fsspec.filesystem("memory")
    system.put(str(release), "/bucket/release", recursive=True)
    yield "memory://bucket/release"
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def test_it_has_the_same_parts(release: Path, bucket: str) -> None:
    with open_release(release) as here, open_release(bucket) as there:
        ours, theirs = ReleaseSource(here), ReleaseSource(there)
        assert theirs.origins == ours.origins
        assert theirs.name == ours.name
        assert theirs.unused == ours.unused
        media: Any = ours.media(text_ids=False)
        for kind, files in theirs.media(text_ids=False).items():
            assert list(files.by_item) == list(media[kind].by_item)
            assert files.names == media[kind].names
            assert files.unused == media[kind].unused
            assert [files.size_of(item) for item in files.by_item] == [
                media[kind].size_of(item) for item in files.by_item
            ]


def test_local_files_of_the_tables_go_with_it(bucket: str) -> None:
    with open_release(bucket) as opened:
        assert opened.release.pairs.is_file()
    assert not opened.release.folder.exists()


def test_it_is_prepared_to_the_same_bytes(release: Path, tmp_path: Path) -> None:
    prepare(release, tmp_path / "here", SETTINGS, workers=1)
    prepare(f"file://{release}", tmp_path / "there", SETTINGS, workers=1)
    assert bytes_of(tmp_path / "there") == bytes_of(tmp_path / "here")


def test_errors_name_the_address(bucket: str, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/bucket/release/synthetic_pairs.csv", b"user,item,timestamp\n1,2,x\n")
    with pytest.raises(InputError, match=r"memory://bucket/release/synthetic_pairs\.csv, line 2"):
        prepare(bucket, tmp_path / "dataset", SETTINGS)
    with pytest.raises(InputError, match="memory://bucket/nowhere"):
        prepare("memory://bucket/nowhere", tmp_path / "dataset", SETTINGS)
    assert list(tmp_path.iterdir()) == []
