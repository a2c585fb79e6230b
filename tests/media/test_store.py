import multiprocessing
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import lmdb
import numpy as np
import pytest

from microlens.errors import InputError
from microlens.media.array_packing import pack_array, unpack_array
from microlens.media.packing import pack_images, unpack_images
from microlens.media.store import Store, StoreWriter, read_images


def clip(seed, shape=(5, 32, 48, 3)):
    F, H, W, _ = shape
    rows, columns = np.mgrid[:H, :W]
    colours = np.random.default_rng(seed).uniform(40, 215, (F, 1, 1, 3))
    return (colours + 30 * np.sin((rows + columns) / 9)[None, ..., None]).astype(np.uint8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clips.lmdb"


def test_images_survive_packing():
    images = clip(0, (5, 224, 224, 3))
    value = pack_images(images)
    assert len(value) < 120_000 < images.size
    again = unpack_images(value)
    assert (again.shape, again.dtype) == (images.shape, np.uint8)
    assert np.abs(again.astype(int) - images).mean() < 2
    red = np.zeros((1, 16, 16, 3), np.uint8)
    red[..., 0] = 200
    np.testing.assert_allclose(unpack_images(pack_images(red)).mean((0, 1, 2)), [200, 0, 0], atol=3)
    assert len(pack_images(images, quality=50)) < len(value)


@pytest.mark.parametrize("shape", [(998, 64), (0, 64), (3,), (2, 3, 4)])
def test_arrays_survive_packing(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(unpack_array(pack_array(array)), array)


def test_only_bytes_are_packed_as_arrays():
    with pytest.raises(TypeError):
        pack_array(np.zeros(3, np.float32))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"the file is empty",
        pack_array(np.zeros((5, 5), np.uint8)),
        pack_images(clip(0))[:-1],
        pack_images(clip(0))[:12],
    ],
)
def test_what_is_no_clip_is_refused(value):
    with pytest.raises(InputError):
        unpack_images(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"no sound track",
        pack_images(clip(0)),
        pack_array(np.zeros(9, np.uint8))[:-1],
        pack_array(np.zeros(9, np.uint8))[:6],
    ],
)
def test_what_is_no_array_is_refused(value):
    with pytest.raises(InputError):
        unpack_array(value)


def test_a_damaged_picture_is_refused():
    value = bytearray(pack_images(clip(0)))
    value[len(value) // 2 :] = bytes(len(value) - len(value) // 2)
    with pytest.raises(InputError, match="damaged"):
        unpack_images(bytes(value))


def test_what_is_put_is_got(path):
    with StoreWriter(path) as writer:
        for item_id in (10, 9, 100, 7):
            assert not writer.has(item_id)
            writer.put(item_id, b"value %d" % item_id)
            assert writer.has(item_id)
    store = Store.open(path)
    assert store.item_ids().tolist() == [7, 9, 10, 100]
    assert store.item_ids().dtype == np.int64
    assert len(store) == 4
    assert store.get(100) == b"value 100"
    assert store.get(1) is None
    assert 9 in store
    assert 90 not in store
    assert [file.name for file in path.parent.iterdir()] == ["clips.lmdb"]


def test_appending_goes_on_where_it_ended(path):
    with StoreWriter(path) as writer:
        writer.put(1, b"one")
    before = Store.open(path)
    assert before.get(2) is None
    with StoreWriter(path) as writer:
        assert writer.has(1)
        writer.put(2, b"two")
    assert (before.get(1), before.get(2), len(Store.open(path))) == (b"one", b"two", 2)


def test_the_map_grows(path, monkeypatch):
    monkeypatch.setattr("microlens.media.store._FIRST_MAP_BYTES", 1 << 20)
    value = np.random.default_rng(0).bytes(300_000)
    with StoreWriter(path) as writer:
        for item_id in range(40):
            writer.put(item_id, value)
    assert len(Store.open(path)) == 40
    assert all(Store.open(path).get(item_id) == value for item_id in range(40))


def test_unused_space_is_given_back(path):
    value = np.random.default_rng(0).bytes(200_000)
    with StoreWriter(path) as writer:
        for _ in range(3):
            for item_id in range(100):
                writer.put(item_id, value)
            writer.commit()
    assert path.stat().st_size < 1.1 * 100 * len(value)
    assert Store.open(path).get(99) == value


def test_an_exception_keeps_what_was_put(path):
    def fail_after_one():
        with StoreWriter(path) as writer:
            writer.put(3, b"three")
            raise KeyError

    with pytest.raises(KeyError):
        fail_after_one()
    assert Store.open(path).get(3) == b"three"


def test_a_killed_writer_leaves_what_it_committed(path):
    program = (
        "import os, signal, pathlib, sys\n"
        "from microlens.media.store import StoreWriter\n"
        "writer = StoreWriter(pathlib.Path(sys.argv[1]))\n"
        "for item_id in range(50):\n"
        "    writer.put(item_id, b'x' * 10000)\n"
        "writer.commit()\n"
        "writer.put(50, b'lost')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert Store.open(path).item_ids().tolist() == list(range(50))
    with StoreWriter(path) as writer:
        assert writer.has(49)
        assert not writer.has(50)
        writer.put(50, b"again")
    assert Store.open(path).get(50) == b"again"


def read_in_worker(store, queue):
    queue.put((store.get(5), read_images(store, [6]).shape))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_other_processes_read_too(path, method):
    with StoreWriter(path) as writer:
        writer.put(5, b"five")
        writer.put(6, pack_images(clip(6)))
    store = Store.open(path)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    workers = [context.Process(target=read_in_worker, args=(store, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert [queue.get(timeout=60) for _ in workers] == [(b"five", (1, 5, 32, 48, 3))] * 2
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert store.get(5) == b"five"


def test_opening_twice_shares_one_handle_and_pickles_by_path(path):
    with StoreWriter(path) as writer:
        writer.put(1, b"one")
    first, second = Store.open(path), Store.open(path.parent / "." / path.name)
    assert first.get(1) == second.get(1) == pickle.loads(pickle.dumps(first)).get(1) == b"one"


def test_a_file_that_is_no_store_is_refused(path):
    with pytest.raises(InputError, match="there is no such store"):
        Store.open(path)
    for content in (b"", b"garbage" * 10_000):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a store"):
            Store.open(path)
    with pytest.raises(InputError, match="not a store"):
        StoreWriter(path)


def test_a_store_cut_short_is_refused_rather_than_killing_the_process(path):
    with StoreWriter(path) as writer:
        for item_id in range(50):
            writer.put(item_id, bytes(10_000))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cut short"):
        Store.open(path)


def test_a_foreign_lmdb_is_refused(path):
    with lmdb.open(str(path), subdir=False, lock=False) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"title", b"")
    with pytest.raises(InputError, match="not a store"):
        Store.open(path).item_ids()


def test_entries_that_the_original_code_adds_are_no_items(path):
    with StoreWriter(path) as writer:
        writer.put(3, b"three")
        writer.put_entry(b"__keys__", bytes(9000))
        writer.put_entry(b"__len__", b"1")
    with StoreWriter(path) as writer:
        assert writer.has(3)
    store = Store.open(path)
    assert (store.item_ids().tolist(), store.get(3)) == ([3], b"three")


@pytest.mark.parametrize("threads", [0, 2])
def test_many_clips_are_read_in_the_order_asked_for(path, threads):
    with StoreWriter(path) as writer:
        for item_id in range(8):
            writer.put(item_id, pack_images(clip(item_id)))
    store = Store.open(path)
    ids = [5, 2, 2, 7]
    pool = ThreadPoolExecutor(threads) if threads else None
    images = read_images(store, np.array(ids), pool)
    assert images.shape == (4, 5, 32, 48, 3)
    for row, item_id in zip(images, ids, strict=True):
        np.testing.assert_array_equal(row, unpack_images(store.get(item_id)))
    if pool:
        pool.shutdown()


def test_reading_says_which_item_is_wrong(path):
    with StoreWriter(path) as writer:
        writer.put(1, pack_images(clip(1)))
        writer.put(2, pack_images(clip(2, (3, 32, 48, 3))))
        writer.put(3, b"no video stream")
    store = Store.open(path)
    for wrong, words in (
        (2, "item 2: .*shape"),
        (3, "item 3: .*not a set of images"),
        (4, "item 4: there is no such item"),
    ):
        with pytest.raises(InputError, match=words):
            read_images(store, [1, wrong])
    with pytest.raises(InputError, match="no items"):
        read_images(store, [])


def test_a_store_that_is_a_folder_or_links_to_itself_is_refused(tmp_path):
    (tmp_path / "folder.lmdb").mkdir()
    (tmp_path / "loop.lmdb").symlink_to(tmp_path / "loop.lmdb")
    for name in ("folder", "loop"):
        with pytest.raises(InputError, match=rf"{name}\.lmdb: the store cannot be (read|opened) \("):
            Store.open(tmp_path / f"{name}.lmdb")
