"""Index of the values in an LMDB file, read without the LMDB library.

The library trusts the file: a flipped bit in a page makes it abort the process or read outside its map. Therefore the
tree is read here with every number checked, and values are then read by position. The layout is that of format version
1 on a 64-bit machine: MDB_meta, MDB_db, MDB_page and MDB_node in LMDB's mdb.c.
"""

import os
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microlens.errors import InputError

# Page number, (unused), flags, end of the node pointers, start of the nodes.
_PAGE = struct.Struct("=QHHHH")
# Magic number, version, (address, size of the map), two trees, last page, last transaction. Each tree: page size or
# (unused), (flags), depth, (three page counts), entries, root.
_META = struct.Struct("=II16x IHH24xQQ IHH24xQQ QQ")
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _META_PAGE = 1, 2, 8
_NODE_BYTES = 8  # before the key: lower and upper half of the length, flags, length of the key
_OVERFLOW = 1  # flag of a node whose value is on overflow pages
_NO_ROOT = 2**64 - 1  # root of an empty tree
_MAX_DEPTH = 32
_LONGEST_KEY = 20
_NO_ITEMS = (b"__keys__", b"__len__")  # keys that the original code adds to those of the items

Int64 = NDArray[np.int64]
Nodes = tuple[Int64, Int64]


@dataclass(frozen=True, kw_only=True)
class StoreIndex:
    """The item ids of a store (n,), ascending, with the start (n,) and length (n,) of each value in bytes."""

    item_ids: Int64
    starts: Int64
    lengths: Int64


def read_index(file: int, path: Path) -> StoreIndex:
    """Read the tree of an LMDB file.

    Args:
        file: file descriptor.
        path: file name, for messages.

    Raises:
        InputError: the file is not an LMDB file, is truncated or damaged, or its keys are not item ids.
    """
    return _File(file, path).index()


def check_free_pages(file: int, path: Path) -> None:
    """Check the tree of free pages of an LMDB file, which a writer reuses; arguments as :func:`read_index`.

    Raises:
        InputError: the tree is damaged.
    """
    _File(file, path).check_free_pages()


class _File:
    def __init__(self, file: int, path: Path) -> None:
        self.file, self.path = file, path
        first = self._meta(0)
        self.page_bytes = first[2]
        if self.page_bytes not in (1 << power for power in range(9, 16)):
            raise self._not_a_store()
        newest = max(first, self._meta(self.page_bytes), key=lambda meta: meta[-1])
        self.free, self.items, last_page = newest[4:7], newest[9:12], newest[12]
        self.pages = last_page + 1
        if os.fstat(file).st_size < self.pages * self.page_bytes:
            raise InputError(f"{path}: the store is cut short; copy or prepare it again")

    def index(self) -> StoreIndex:
        """Collect the entries of all leaf pages."""
        leaves = self._leaves(*self.items)
        if not len(leaves):
            nothing = np.empty(0, np.int64)
            return StoreIndex(item_ids=nothing, starts=nothing, lengths=nothing)
        keys, key_bytes, starts, lengths = self._values(leaves)
        self._require(len(keys) == self.items[1])
        are_items = ~np.isin(keys, _NO_ITEMS)
        item_ids = self._item_ids(keys[are_items], key_bytes[are_items])
        starts, lengths = starts[are_items], lengths[are_items]
        by_start = np.argsort(starts)
        self._require(bool(np.all((starts + lengths)[by_start[:-1]] <= starts[by_start[1:]])))
        order = np.argsort(item_ids)
        self._require(bool(np.all(np.diff(item_ids[order]) > 0)))
        return StoreIndex(item_ids=item_ids[order], starts=starts[order], lengths=lengths[order])

    def check_free_pages(self) -> None:
        """Check the free lists; each value is a number of pages followed by their page numbers, descending."""
        leaves = self._leaves(*self.free)
        if not len(leaves):
            return
        _, _, _, _, starts, lengths = self._located(leaves)
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            self._require(length >= 8 and length % 8 == 0)
            count, *numbers = np.frombuffer(os.pread(self.file, length, start), np.uint64).tolist()
            self._require(count <= len(numbers))
            numbers = numbers[:count]
            self._require(all(1 < number < self.pages for number in numbers))
            self._require(all(one > other for one, other in pairwise(numbers)))

    def _leaves(self, depth: int, entries: int, root: int) -> NDArray[np.uint64]:
        """The page numbers of the leaves of a tree."""
        if root == _NO_ROOT and not entries:
            return np.empty(0, np.uint64)
        self._require(1 <= depth <= _MAX_DEPTH)
        level = np.array([root], np.uint64)
        for _ in range(depth - 1):
            level = self._children(level)
        return level

    def _children(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The page numbers that the branch pages ``numbers`` point to."""
        pages, (row, position) = self._read(numbers, _BRANCH)
        low, high, highest, _ = self._fields(pages, row, position)
        return (low | high << 16 | highest << 32).astype(np.uint64)

    def _values(self, numbers: NDArray[np.uint64]) -> tuple[NDArray[np.bytes_], Int64, Int64, Int64]:
        """Key, its length, and start and length of every value on or referenced by the leaf pages ``numbers``."""
        pages, row, position, key_bytes, starts, lengths = self._located(numbers)
        if np.any((key_bytes < 1) | (key_bytes > _LONGEST_KEY)):
            raise self._not_items()
        keys = self._bytes(pages, row, position + _NODE_BYTES, _LONGEST_KEY)
        keys[np.arange(_LONGEST_KEY) >= key_bytes[:, None]] = 0
        return keys.view(f"S{_LONGEST_KEY}")[:, 0], key_bytes, starts, lengths

    def _located(self, numbers: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], Int64, Int64, Int64, Int64, Int64]:
        """Locate the values of the leaf pages ``numbers``.

        Returns:
            The pages, and for each node its page row, its position, the length of its key, and the start and length of
            its value.
        """
        pages, (row, position) = self._read(numbers, _LEAF)
        low, high, flags, key_bytes = self._fields(pages, row, position)
        lengths, after = low | high << 16, position + _NODE_BYTES + key_bytes
        elsewhere = flags == _OVERFLOW
        self._require(bool(np.all(elsewhere | (flags == 0)) and np.all(after <= self.page_bytes)))
        self._require(bool(np.all(after + np.where(elsewhere, 8, lengths) <= self.page_bytes)))
        starts = numbers.astype(np.int64)[row] * self.page_bytes + after
        if elsewhere.any():
            own = self._bytes(pages, row[elsewhere], after[elsewhere], 8).view(np.uint64)[:, 0]
            self._require(bool(np.all((own > 1) & (own < self.pages))))
            starts[elsewhere] = own.astype(np.int64) * self.page_bytes + _PAGE.size
        self._require(bool(np.all(starts + lengths <= self.pages * self.page_bytes)))
        return pages, row, position, key_bytes, starts, lengths

    def _item_ids(self, keys: NDArray[np.bytes_], key_bytes: Int64) -> Int64:
        try:
            item_ids = keys.astype(np.int64)
        except (ValueError, OverflowError):
            raise self._not_items() from None
        if np.any(item_ids.astype(keys.dtype) != keys) or np.any(np.char.str_len(keys) != key_bytes):
            raise self._not_items()
        return item_ids

    def _read(self, numbers: NDArray[np.uint64], flag: int) -> tuple[NDArray[np.uint8], Nodes]:
        """The pages (P, bytes) of one type, and for each of their nodes the page row and the position in the page."""
        self._require(bool(np.all((numbers > 1) & (numbers < self.pages))) and len(np.unique(numbers)) == len(numbers))
        pages = np.empty((len(numbers), self.page_bytes), np.uint8)
        for page, number in zip(pages, numbers.tolist(), strict=True):
            self._require(os.preadv(self.file, [page.data], number * self.page_bytes) == self.page_bytes)
        halves = pages.view(np.uint16)
        flags, lower, upper = (halves[:, column].astype(np.int64) for column in (5, 6, 7))
        self._require(bool(np.all(pages[:, :8].copy().view(np.uint64)[:, 0] == numbers) and np.all(flags == flag)))
        self._require(bool(np.all((_PAGE.size < lower) & (lower <= upper) & (upper <= self.page_bytes))))
        counts = (lower - _PAGE.size) // 2
        row = np.repeat(np.arange(len(pages)), counts)
        number_in_page = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        position = halves[row, _PAGE.size // 2 + number_in_page].astype(np.int64)
        self._require(
            bool(np.all((position >= upper[row]) & (position <= self.page_bytes - _NODE_BYTES) & (position % 2 == 0)))
        )
        return pages, (row, position)

    def _fields(self, pages: NDArray[np.uint8], row: Int64, position: Int64) -> list[Int64]:
        """The four 16-bit fields at the start of each node."""
        halves = pages.view(np.uint16)
        return [halves[row, position // 2 + number].astype(np.int64) for number in range(4)]

    def _bytes(self, pages: NDArray[np.uint8], row: Int64, position: Int64, count: int) -> NDArray[np.uint8]:
        """``count`` bytes of each node starting at ``position``: (n, count), zero beyond the end of the page."""
        columns = position[:, None] + np.arange(count)
        inside = np.minimum(columns, self.page_bytes - 1)
        return np.where(columns < self.page_bytes, pages[row[:, None], inside], np.uint8(0))

    def _meta(self, start: int) -> tuple[int, ...]:
        page = os.pread(self.file, _PAGE.size + _META.size, start)
        if len(page) < _PAGE.size + _META.size or _PAGE.unpack_from(page)[2] != _META_PAGE:
            raise self._not_a_store()
        meta: tuple[int, ...] = _META.unpack_from(page, _PAGE.size)
        if meta[:2] != (_MAGIC, _VERSION):
            raise self._not_a_store()
        return meta

    def _require(self, condition: bool) -> None:
        if not condition:
            raise InputError(f"{self.path}: a page of the store is damaged; copy or prepare it again")

    def _not_a_store(self) -> InputError:
        return InputError(f"{self.path}: this is not a store that can be opened; copy or prepare it again")

    def _not_items(self) -> InputError:
        return InputError(f"{self.path}: its keys are not item numbers, so it is not a store")
