"""Clips, covers and sound on disk: one LMDB file a kind, items as JPEG frames or small arrays, no pickle.

The key of an item is its number in ASCII decimals. A store grows item by item and survives being killed: what was
committed stays. Reading opens one handle a file and process, as LMDB demands; it may be shared by threads, inherited
by forked workers, and a Store may be sent to a spawned one.
"""

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import lmdb
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from microlens.errors import InputError
from microlens.files import whole

Images: TypeAlias = NDArray[np.uint8]

_IMAGES_MARK = b"MLJ1"
_IMAGES_HEADER = struct.Struct("<4sHHH")  # mark, F, H, W; then F lengths, then F JPEG files
_ARRAY_MARK = b"MLU1"
_ARRAY_HEADER = struct.Struct("<4sB")  # mark, number of axes; then their sizes, then the bytes
_FIRST_MAP_BYTES = 1 << 28
_COMMIT_BYTES = 16 << 20
_COMMIT_ITEMS = 1024
_WORTH_COMPACTING = 0.1  # of the file being unused pages

_open_environments: dict[str, lmdb.Environment] = {}


def pack_images(images: Images, quality: int = 90) -> bytes:
    """Images (F, H, W, 3) uint8 RGB as one value: a header and F JPEG files with full-resolution colour (4:2:0)."""
    F, H, W, _ = images.shape
    coded = [
        simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, colorspace="RGB", colorsubsampling="420")
        for image in images
    ]
    lengths = np.array([len(data) for data in coded], "<u4").tobytes()
    return b"".join([_IMAGES_HEADER.pack(_IMAGES_MARK, F, H, W), lengths, *coded])


def unpack_images(value: bytes) -> Images:
    """The images (F, H, W, 3) uint8 RGB of one value.

    Raises:
        InputError: the value holds no images, or is damaged.
    """
    images = np.empty((*_images_shape(value), 3), np.uint8)
    _decode_images(value, images)
    return images


def _images_shape(value: bytes) -> tuple[int, int, int]:
    if len(value) < _IMAGES_HEADER.size or value[:4] != _IMAGES_MARK:
        raise InputError("a stored value is not a set of images")
    _, F, H, W = _IMAGES_HEADER.unpack_from(value)
    return F, H, W


def _decode_images(value: bytes, out: Images) -> None:
    """Decodes one value straight into `out` (F, H, W, 3)."""
    F, H, W = _images_shape(value)
    if out.shape != (F, H, W, 3):
        raise InputError(f"a stored clip has shape {(F, H, W, 3)}, others here have {out.shape}")
    start = _IMAGES_HEADER.size + 4 * F
    if len(value) < start:
        raise InputError("a stored set of images is cut short")
    ends = start + np.cumsum(np.frombuffer(value, "<u4", F, _IMAGES_HEADER.size), dtype=np.int64)
    if len(value) != (int(ends[-1]) if F else start):
        raise InputError("a stored set of images is cut short")
    view = memoryview(value)
    for image, end in zip(out, ends.tolist(), strict=True):
        try:
            if simplejpeg.decode_jpeg_header(view[start:end])[:2] != (H, W):
                raise InputError("a stored image has another size than its header says")
            simplejpeg.decode_jpeg(view[start:end], colorspace="RGB", buffer=image)
        except ValueError as error:
            raise InputError(f"a stored image is damaged: {error}") from None
        start = end


def pack_array(array: NDArray[np.uint8]) -> bytes:
    """A uint8 array of any shape as one value: a header with the shape, and the bytes."""
    sizes = struct.pack(f"<{array.ndim}I", *array.shape)
    return _ARRAY_HEADER.pack(_ARRAY_MARK, array.ndim) + sizes + array.astype(np.uint8, casting="no").tobytes()


def unpack_array(value: bytes) -> NDArray[np.uint8]:
    """The uint8 array of one value, read-only.

    Raises:
        InputError: the value holds no array, or is damaged.
    """
    if len(value) < _ARRAY_HEADER.size or value[:4] != _ARRAY_MARK:
        raise InputError("a stored value is not an array")
    start = _ARRAY_HEADER.size + 4 * value[4]
    shape = struct.unpack_from(f"<{value[4]}I", value, _ARRAY_HEADER.size) if len(value) >= start else (-1,)
    if len(value) - start != int(np.prod(shape, dtype=np.int64)):
        raise InputError("a stored array is cut short")
    return np.frombuffer(value, np.uint8, offset=start).reshape(shape)


class StoreWriter:
    """Adds items to a store, a new or an unfinished one; for use in a `with` block.

    Items are committed in batches and when the block ends, and survive the process being killed from then on.
    One writer at a time.

    Raises:
        InputError: the file exists but is not a store.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        _close_reader(self._path)
        existing = self._path.stat().st_size if self._path.exists() else 0
        self._env = _open_environment(self._path, map_size=max(_FIRST_MAP_BYTES, 2 * existing), create=True)
        self._pending: dict[bytes, bytes] = {}
        self._pending_bytes = 0

    def put(self, item_id: int, value: bytes) -> None:
        """Adds an item, or replaces it."""
        self._pending[_key(item_id)] = value
        self._pending_bytes += len(value)
        if self._pending_bytes >= _COMMIT_BYTES or len(self._pending) >= _COMMIT_ITEMS:
            self.commit()

    def has(self, item_id: int) -> bool:
        """Whether the item is in the store already, committed or about to be."""
        key = _key(item_id)
        with self._env.begin(buffers=True) as transaction:
            return key in self._pending or transaction.get(key) is not None

    def commit(self) -> None:
        """Makes everything put so far survive a kill."""
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
        """Commits, gives unused pages back, and leaves a single file."""
        try:
            self.commit()
            if _unused_share(self._env) > _WORTH_COMPACTING:
                with whole(self._path) as compact:
                    compact.unlink(missing_ok=True)  # of a killed process; LMDB writes to new files only
                    self._env.copy(str(compact), compact=True)
        finally:
            self._env.close()
        self._path.with_name(self._path.name + "-lock").unlink(missing_ok=True)


class Store:
    """A finished store, read-only. Made by `Store.open`; equal to another process's Store of the same path."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    @classmethod
    def open(cls, path: Path) -> Self:
        """The store in one file.

        Raises:
            InputError: the file does not exist, is cut short, or is not a store.
        """
        store = cls(path)
        store._environment()
        return store

    def get(self, item_id: int) -> bytes | None:
        """The item's value, or None."""
        with self._environment().begin() as transaction:
            value: bytes | None = transaction.get(_key(item_id))
        return value

    def __contains__(self, item_id: int) -> bool:
        with self._environment().begin(buffers=True) as transaction:
            return transaction.get(_key(item_id)) is not None

    def __len__(self) -> int:
        return int(self._environment().stat()["entries"])

    def item_ids(self) -> NDArray[np.int64]:
        """The numbers of all items, ascending, shape (number of items,)."""
        with self._environment().begin() as transaction:
            keys = list(transaction.cursor().iternext(keys=True, values=False))
        try:
            return np.sort(np.array([int(key) for key in keys], np.int64))
        except ValueError:
            raise InputError(f"{self.path}: its keys are not item numbers, so it is not a store") from None

    def _environment(self) -> lmdb.Environment:
        environment = _open_environments.get(str(self.path))
        if environment is None:
            environment = _open_environments[str(self.path)] = _open_environment(self.path, create=False)
        return environment


def read_images(store: Store, item_ids: Sequence[int], pool: ThreadPoolExecutor | None = None) -> Images:
    """The images of M items, (M, F, H, W, 3) uint8 RGB in one array; with a pool its threads share the decoding.

    Raises:
        InputError: an item is missing or damaged, or has another number or size of images than the first.
    """
    if not len(item_ids):
        raise InputError(f"{store.path}: no items were asked for")
    images = np.empty((len(item_ids), *_images_shape(_required(store, item_ids[0])), 3), np.uint8)

    def decode(row: int) -> None:
        try:
            _decode_images(_required(store, item_ids[row]), images[row])
        except InputError as error:
            raise InputError(f"{store.path}: item {item_ids[row]}: {error}") from None

    for _ in (pool.map if pool else map)(decode, range(len(item_ids))):
        pass
    return images


def _required(store: Store, item_id: int) -> bytes:
    value = store.get(item_id)
    if value is None:
        raise InputError(f"{store.path}: there is no item {item_id}")
    return value


def _key(item_id: int) -> bytes:
    return b"%d" % item_id


def _open_environment(path: Path, *, create: bool, map_size: int = 0) -> lmdb.Environment:
    if not create and not path.is_file():
        raise InputError(f"{path}: there is no such store")
    try:
        environment = lmdb.open(
            str(path), subdir=False, readonly=not create, lock=create, create=create, readahead=False,
            max_readers=2048, map_size=map_size,
        )  # fmt: skip
    except lmdb.Error as error:
        raise InputError(f"{path}: this is not a store that can be opened ({error})") from None
    pages = environment.info()["last_pgno"] + 1
    if path.stat().st_size < pages * environment.stat()["psize"]:
        environment.close()  # reading past the end would kill the process
        raise InputError(f"{path}: the store is cut short; copy or prepare it again")
    return environment


def _close_reader(path: Path) -> None:
    environment = _open_environments.pop(str(path), None)
    if environment is not None:
        environment.close()


def _unused_share(environment: lmdb.Environment) -> float:
    statistics = environment.stat()
    used = sum(statistics[kind] for kind in ("branch_pages", "leaf_pages", "overflow_pages"))
    total = environment.info()["last_pgno"] + 1
    return float(1 - (used + 2) / total)  # two pages are LMDB's own header
