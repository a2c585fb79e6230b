"""LMDB stores of clips, covers and sound: one file per kind, items as JPEG frames or small arrays, no pickle.

An item's key is its number in ASCII decimals. A store grows item by item; committed items survive a kill. A reader may
be shared by threads, inherited by forked workers and sent to spawned workers.
"""

import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import lmdb
import numpy as np
from numpy.typing import NDArray

from microlens.errors import InputError
from microlens.files.writing import atomic_write
from microlens.media.array_packing import unpack_array
from microlens.media.packing import Images, decode_into, picture_files
from microlens.media.store_index import StoreIndex, check_free_pages, read_index

_FIRST_MAP_BYTES = 1 << 28
_COMMIT_BYTES = 16 << 20
_COMMIT_ITEMS = 1024
_COMPACT_ABOVE = 0.1  # minimum fraction of unused pages


class StoreWriter:
    """Adds items to a new or unfinished store; a context manager.

    Items are committed in batches and at the end of the block; committed items survive a kill. A store has one writer
    at a time.

    Raises:
        InputError: the file exists but is not a store.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        existing = self._path.stat().st_size if self._path.exists() else 0
        _open_readers.pop(str(self._path), None)
        if existing:
            reader = _Reader(self._path)  # checks the pages, because LMDB crashes on a damaged one
            check_free_pages(reader.file, self._path)
        try:
            self._env = lmdb.open(
                str(self._path), subdir=False, readahead=False, map_size=max(_FIRST_MAP_BYTES, 2 * existing)
            )
        except lmdb.Error as error:
            raise InputError(f"{path}: this is not a store that can be opened ({error})") from None
        self._pending: dict[bytes, bytes] = {}
        self._pending_bytes = 0

    def put(self, item_id: int, value: bytes) -> None:
        """Add or replace an item."""
        self.put_entry(_key(item_id), value)

    def put_entry(self, key: bytes, value: bytes) -> None:
        """Add or replace an entry under any key, such as one that is no item."""
        self._pending[key] = value
        self._pending_bytes += len(value)
        if self._pending_bytes >= _COMMIT_BYTES or len(self._pending) >= _COMMIT_ITEMS:
            self.commit()

    def has(self, item_id: int) -> bool:
        """True if the item is in the store, committed or pending."""
        key = _key(item_id)
        with self._env.begin(buffers=True) as transaction:
            return key in self._pending or transaction.get(key) is not None

    def commit(self) -> None:
        """Commit everything put so far, so that it survives a kill."""
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    for key in sorted(self._pending):
                        transaction.put(key, self._pending[key])
                break
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])
        self._pending.clear()
        self._pending_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Commit, compact the file if worthwhile, and remove the lock file."""
        try:
            self.commit()
            if _unused_share(self._env) > _COMPACT_ABOVE:
                with atomic_write(self._path) as compact:
                    compact.unlink(missing_ok=True)  # left by a killed process; LMDB writes only to new files
                    self._env.copy(str(compact), compact=True)
        finally:
            self._env.close()
        self._path.with_name(self._path.name + "-lock").unlink(missing_ok=True)


class _Reader:
    """An open store: its index, and the state of the file when it was opened."""

    def __init__(self, path: Path) -> None:
        try:
            self.file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise InputError(f"{path}: there is no such store; prepare the dataset again") from None
        except OSError as error:
            raise InputError(f"{path}: the store cannot be opened ({error.strerror})") from None
        weakref.finalize(self, os.close, self.file)
        try:
            self.index: StoreIndex = read_index(self.file, path)
        except OSError as error:  # the path is a folder, or the disk fails
            raise InputError(f"{path}: the store cannot be read ({error.strerror})") from None
        self.state = _state_of(os.fstat(self.file))


_open_readers: dict[str, _Reader] = {}


class Store:
    """A finished, read-only store, opened by `Store.open`; can be sent to other processes."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))  # does not raise on a loop of links

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the store of one file.

        Raises:
            InputError: the file does not exist, is truncated or damaged, or is not a store.
        """
        store = cls(path)
        with suppress(OSError):
            if store._reader().state != _state_of(store.path.stat()):  # the file was replaced since
                del _open_readers[str(store.path)]
        store._reader()
        return store

    def get(self, item_id: int) -> bytes | None:
        """The item's value, or None.

        Raises:
            InputError: the file was truncated after it was opened.
        """
        reader = self._reader()
        position = _index_of(item_id, reader.index)
        if position is None:
            return None
        start, length = int(reader.index.starts[position]), int(reader.index.lengths[position])
        value = os.pread(reader.file, length, start)
        if len(value) != length:
            raise InputError(f"{self.path}: the store is cut short; copy or prepare it again")
        return value

    def __contains__(self, item_id: int) -> bool:
        return _index_of(item_id, self._reader().index) is not None

    def __len__(self) -> int:
        return len(self._reader().index.item_ids)

    def item_ids(self) -> NDArray[np.int64]:
        """All item numbers, ascending, shape (number of items,)."""
        return self._reader().index.item_ids

    def _reader(self) -> _Reader:
        reader = _open_readers.get(str(self.path))
        if reader is None:
            reader = _open_readers[str(self.path)] = _Reader(self.path)
        return reader


def _index_of(item_id: int, index: StoreIndex) -> int | None:
    position = int(np.searchsorted(index.item_ids, item_id))
    return position if position < len(index.item_ids) and index.item_ids[position] == item_id else None


def _state_of(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def read_images(
    store: Store,
    item_ids: Sequence[int],
    pool: ThreadPoolExecutor | None = None,
    name_of: Callable[[int], object] = int,
) -> Images:
    """The images of M items, (M, F, H, W, 3) uint8 RGB in one array; with a pool its threads share the decoding.

    ``name_of`` gives the name of an item in messages.

    Raises:
        InputError: an item is missing or damaged, or its images differ from the first item's in number or size.
    """
    if not len(item_ids):
        raise InputError(f"{store.path}: no items were asked for")
    with _item_named(store, item_ids[0], name_of):
        _, shape = picture_files(_required(store, item_ids[0]))
    images = np.empty((len(item_ids), *shape), np.uint8)

    def decode(row: int) -> None:
        with _item_named(store, item_ids[row], name_of):
            pictures, own_shape = picture_files(_required(store, item_ids[row]))
            if own_shape != shape:
                raise InputError(f"a stored clip has shape {own_shape}, others here have {shape}")
            decode_into(pictures, images[row])

    for _ in (pool.map if pool else map)(decode, range(len(item_ids))):
        pass
    return images


def read_arrays(
    store: Store, item_ids: Sequence[int], shape: tuple[int, ...], name_of: Callable[[int], object] = int
) -> NDArray[np.uint8]:
    """The arrays of M items, (M, *shape) uint8, with zeros behind those that have fewer rows.

    ``name_of`` gives the name of an item in messages.

    Raises:
        InputError: an item is missing or damaged, has rows of another shape, or has more rows than `shape`.
    """
    arrays = np.zeros((len(item_ids), *shape), np.uint8)
    for out, item_id in zip(arrays, item_ids, strict=True):
        with _item_named(store, item_id, name_of):
            array = unpack_array(_required(store, item_id))
            if array.ndim != len(shape) or array.shape[1:] != shape[1:] or len(array) > shape[0]:
                raise InputError(f"a stored array has shape {array.shape}, expected is {shape} or fewer rows")
            out[: len(array)] = array
    return arrays


@contextmanager
def _item_named(store: Store, item_id: int, name_of: Callable[[int], object]) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{store.path}: item {name_of(item_id)}: {error}; prepare the dataset again") from None


def _required(store: Store, item_id: int) -> bytes:
    value = store.get(item_id)
    if value is None:
        raise InputError("there is no such item")
    return value


def _key(item_id: int) -> bytes:
    return b"%d" % item_id


def _unused_share(environment: lmdb.Environment) -> float:
    statistics = environment.stat()
    used = sum(statistics[kind] for kind in ("branch_pages", "leaf_pages", "overflow_pages"))
    total = environment.info()["last_pgno"] + 1
    return float(1 - (used + 2) / total)  # two pages are LMDB's header
