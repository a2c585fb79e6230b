"""Downloads to an address, or by several machines to a folder that they share."""

import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from microlens.download import shards
from microlens.download.progress import Tally
from microlens.download.registry import find_set
from microlens.download.release import download_release
from microlens.download.state import FOLDER
from microlens.download.work import Download
from microlens.engines.local import LocalEngine
from microlens.errors import InputError
from tests.data.test_prepare import run_command
from tests.download import tiny_set
from tests.download.file_server import FileServer, serving
from tests.download.test_release import content

fsspec = pytest.importorskip("fsspec", reason="the extra [scale] is not installed")
ADDRESS = "memory://bucket/tiny"


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "ITEMS_PER_SHARD", 5)


@pytest.fixture
def bucket() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def stored(bucket: Any) -> dict[str, bytes]:
    """The files at the address without hidden ones, by path."""
    start = "/bucket/tiny/"
    return {name.removeprefix(start): bucket.cat(name) for name in bucket.find(start) if FOLDER not in name}


def download(server: FileServer, out: Path | str, **options: Any) -> Download:
    return download_release("tiny", out, mirror=server.address, **options)


@pytest.mark.parametrize("archives", [True, False])
def test_a_set_is_downloaded_to_an_address(tiny: None, bucket: Any, archives: bool) -> None:
    progress = []
    with serving(tiny_set.served(archives=archives)) as server:
        done = download(server, ADDRESS, on_progress=lambda counts: progress.append((counts.files_done, counts.files)))
        assert stored(bucket) == tiny_set.released()
        assert done.missing == {}
        assert done.size >= sum(map(len, tiny_set.released().values()))
        assert progress
        server.requests.clear()
        again = download(server, ADDRESS)
    assert (again.fetched, again.missing, again.present) == ({}, {}, len(tiny_set.released()))
    assert server.requests == []


def test_an_engine_downloads_to_a_folder(server: FileServer, tmp_path: Path) -> None:
    done = download(server, tmp_path / "out", engine=LocalEngine(2))
    assert content(tmp_path / "out") == tiny_set.released()
    assert len(done.fetched) == len(tiny_set.released())


def test_only_what_is_not_there_is_fetched(server: FileServer, bucket: Any) -> None:
    download(server, ADDRESS)
    bucket.rm("/bucket/tiny/Tiny_videos/7.mp4")
    bucket.pipe("/bucket/tiny/Tiny_covers/3.jpg", b"")
    done = download(server, ADDRESS)
    assert sorted(done.fetched) == ["Tiny_covers/3.jpg", "Tiny_videos/7.mp4"]
    assert stored(bucket) == tiny_set.released()


def test_the_same_items_are_drawn_as_for_a_folder(server: FileServer, bucket: Any, tmp_path: Path) -> None:
    for out in (ADDRESS, tmp_path / "out"):
        download(server, out, items=4, only=["videos"])
    assert stored(bucket) == content(tmp_path / "out")
    assert len(stored(bucket)) == 1 + 4  # the pairs name the items


def test_what_is_missing_is_listed_and_the_rest_is_fetched(server: FileServer, bucket: Any) -> None:
    for number in (1, 2):
        del server.files[f"Tiny-Dataset/Tiny_videos.z0{number}"]
    lost = [name for name in server.files if name.endswith("/3.mp4")]
    for name in lost:
        del server.files[name]
    done = download(server, ADDRESS)
    assert list(done.missing) == ["Tiny_videos/3.mp4"]
    assert len(done.notes) <= 1
    listed = bucket.cat(f"/bucket/tiny/{FOLDER}/missing.txt").decode()
    assert listed == done.list_of_missing
    assert listed.startswith("Tiny_videos/3.mp4\tin the zip: ")
    assert stored(bucket).keys() == tiny_set.released().keys() - {"Tiny_videos/3.mp4"}


def test_a_failure_of_the_storage_leaves_what_was_done(server: FileServer, bucket: Any, monkeypatch: Any) -> None:
    write = shards.write_bytes

    def fail(address: str, file: bytes) -> None:
        if address.endswith("Tiny_videos/8.mp4"):
            raise OSError(5, "no answer", address)
        write(address, file)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_bytes", fail)
        with pytest.raises(OSError, match="no answer"):
            download(server, ADDRESS)
    before = stored(bucket)
    assert 0 < len(before) < len(tiny_set.released())
    done = download(server, ADDRESS)
    assert len(done.fetched) == len(tiny_set.released()) - len(before)
    assert stored(bucket) == tiny_set.released()


def test_the_command_takes_an_address(server: FileServer, bucket: Any) -> None:
    options = ["--mirror", server.address]
    status, said, _ = run_command("data", "download", "tiny", ADDRESS, *options)
    assert status == 0
    assert f"Next: microlens data prepare {ADDRESS} DATASET" in said
    status, _, told = run_command("data", "download", "tiny", ADDRESS, *options, "--dry-run")
    assert status == 2
    assert "--dry-run needs a folder" in told
    assert stored(bucket) == tiny_set.released()


def fetch_tiny(address: str, **where: Any) -> Download:
    """Download the small set in another process, whose registry does not hold it."""
    from microlens.download import registry

    with pytest.MonkeyPatch.context() as patch:
        table = tiny_set.content()
        registry.load_registry.cache_clear()
        patch.setattr(registry, "_content", lambda: table)
        return download_release("tiny", mirror=address, **where)


@pytest.mark.published
def test_a_ray_job_downloads_to_a_folder(server: FileServer, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra [scale] is not installed")
    from microlens.engines.ray_cluster import RayEngine

    fetch, tiny = partial(fetch_tiny, server.address), find_set("tiny")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own code
        done = shards.download_in_shards(
            fetch, tiny.files, tiny.media, lambda _: tiny_set.ITEMS, str(tmp_path / "out"), RayEngine(), Tally()
        )
    assert content(tmp_path / "out") == tiny_set.released()
    assert done.missing == {}


def test_a_set_without_pairs_cannot_be_chosen_from(server: FileServer, bucket: Any) -> None:
    with pytest.raises(InputError, match="13 items are asked for, and there are 12"):
        download(server, ADDRESS, items=13)
