"""Datasets as LMDB files, read by the original code's steps."""

import pickle
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import lmdb
import numpy as np
import pytest

from microlens.data import export_lmdb as module
from microlens.data.dataset import Dataset
from microlens.data.export_lmdb import export_lmdb
from microlens.data.prepare import prepare
from microlens.errors import InputError
from microlens.media.decoding import Settings
from microlens.media.original_values import Kind, unpack_original
from microlens.media.packing import unpack_images
from microlens.media.reading import ClipSettings
from microlens.media.store import Store
from microlens.release.synthetic import write_release
from tests.conftest import REPOSITORY
from tests.data.test_prepare import run_command
from tests.reference.original_lmdb import LMDB_VIDEO, LMDB_Image, cover_value, frames_value, read_value

ITEMS = 14


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    write_release(folder / "release", users=24, items=ITEMS, seed=1, workers=1)
    prepare(folder / "release", folder / "dataset", Settings(clips=ClipSettings(num_frames=2)), workers=1)
    return folder / "dataset"


@pytest.fixture(autouse=True)
def _classes_of_the_reading_program(monkeypatch: pytest.MonkeyPatch) -> None:
    for record in (LMDB_Image, LMDB_VIDEO):
        monkeypatch.setattr(sys.modules["__main__"], record.__name__, record, raising=False)


@pytest.mark.parametrize("kind", ["clips", "covers"])
def test_the_original_code_reads_the_right_pixels(dataset: Path, tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "out.lmdb"
    status, out, err = run_command("data", "export-lmdb", dataset, path, "--kind", kind)
    assert status == 0, err
    assert f"the {kind} of {ITEMS} items" in " ".join(out.split())
    assert list(tmp_path.iterdir()) == [path]
    items = Dataset(dataset).item_ids.to_list()
    store = Store.open(dataset / f"{kind}.lmdb")
    environment = lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False, meminit=False)
    with environment, environment.begin() as transaction:
        assert pickle.loads(transaction.get(b"__len__")) == ITEMS
        assert pickle.loads(transaction.get(b"__keys__")) == [str(item).encode("ascii") for item in items]
        assert transaction.stat()["entries"] == ITEMS + 2
        for item in items:
            pixels = read_value(pickle.loads(transaction.get(str(item).encode("ascii"))))
            images = unpack_images(store.get(item) or b"")
            expected = frames_value(images) if kind == "clips" else cover_value(images[0])
            np.testing.assert_allclose(pixels, read_value(expected), atol=1e-6)


def test_what_is_exported_can_be_imported(dataset: Path, tmp_path: Path) -> None:
    assert export_lmdb(dataset, tmp_path / "out.lmdb") == ITEMS
    exported, store = Store.open(tmp_path / "out.lmdb"), Store.open(dataset / "clips.lmdb")
    for item in store.item_ids().tolist():
        found = unpack_original(exported.get(item) or b"", "value")
        np.testing.assert_array_equal(found.images, unpack_images(store.get(item) or b""))


EXPORT_SLOWLY = """
import sys, time
from microlens.data import export_lmdb as module
from microlens.media import store

pack = module.pack_original
store._COMMIT_ITEMS = 2
def slowly(*arguments):
    time.sleep(0.2)
    print("packed", flush=True)
    return pack(*arguments)
module.pack_original = slowly
module.export_lmdb(*sys.argv[1:])
"""


def test_after_kill_9_it_goes_on_and_gives_the_same(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_lmdb(dataset, tmp_path / "undisturbed.lmdb")
    out = tmp_path / "out.lmdb"
    command = [sys.executable, "-c", EXPORT_SLOWLY, str(dataset), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        for _ in range(6):
            assert process.stdout.readline() == b"packed\n"
        process.kill()
    assert not out.exists()
    packed: list[Kind] = []
    pack = module.pack_original
    monkeypatch.setattr(module, "pack_original", lambda kind, images: packed.append(kind) or pack(kind, images))
    export_lmdb(dataset, out)
    assert ITEMS - 6 <= len(packed) <= ITEMS - 4
    mine, whole = Store.open(out), Store.open(tmp_path / "undisturbed.lmdb")
    assert all(mine.get(item) == whole.get(item) for item in whole.item_ids().tolist())
    assert sorted(tmp_path.iterdir()) == [out, tmp_path / "undisturbed.lmdb"]


def test_what_was_begun_for_other_content_is_begun_again(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, pack = tmp_path / "out.lmdb", module.pack_original
    calls = []

    def stop(*arguments: object) -> bytes:
        calls.append(arguments)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return pack(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "pack_original", stop)
    with pytest.raises(KeyboardInterrupt):
        export_lmdb(dataset, out, "covers")
    monkeypatch.setattr(module, "pack_original", pack)
    export_lmdb(dataset, out, "clips")
    kinds = {unpack_original(Store.open(out).get(item) or b"", "").kind for item in Store.open(out).item_ids().tolist()}
    assert kinds == {"clips"}


def test_what_cannot_be_exported_is_refused(
    dataset: Path, video_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.lmdb"
    for arguments, words in (
        ((video_dataset, out), "its clips have 32 x 32 pixels; the original code reads 224 x 224"),
        ((dataset, out, "sound"), "kind is 'sound'; accepted: covers, clips"),
        ((dataset, tmp_path), "exists already"),
        ((tmp_path / "none", out), "none"),
    ):
        with pytest.raises(InputError, match=words):
            export_lmdb(*arguments)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(10_000))
    with pytest.raises(InputError, match=r"needs 0\.0 GB and the disk has 0\.0 GB left"):
        export_lmdb(dataset, out)
    assert not out.exists()


def test_datasets_without_numbers_or_content_are_refused(tmp_path: Path) -> None:
    from tests.conftest import write_pairs

    prepare(write_pairs(tmp_path / "numbers", [[1, 2, 3, 4, 5]] * 2), tmp_path / "data")
    with pytest.raises(InputError, match="no item has clips"):
        export_lmdb(tmp_path / "data", tmp_path / "out.lmdb")
    (tmp_path / "text").mkdir()
    (tmp_path / "text/t_pairs.tsv").write_text("u\ta b c d e\nv\ta b c d e\n")
    prepare(tmp_path / "text", tmp_path / "text_data")
    with pytest.raises(InputError, match="its item ids are text"):
        export_lmdb(tmp_path / "text_data", tmp_path / "out.lmdb")
