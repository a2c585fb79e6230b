"""Reading the content of items by item number, as stored on disk."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from microlens.data.dataset import Dataset
from microlens.data.interactions import Int64
from microlens.data.item_arrays import Rows
from microlens.errors import InputError
from microlens.media.store import Store, read_arrays, read_images
from microlens.release.ids import Id

KINDS = ("clips", "covers", "sound")


class ItemContent:
    """Reads the kinds of content that an encoder needs, for the items of a split.

    ``clips`` are (M, F, H, W, 3) uint8, ``covers`` (M, 1, H, W, 3) uint8, ``sound`` (M, T, mels) uint8, with short
    tracks padded with silence. Missing content raises an error at construction, not in the middle of an epoch; for the
    kinds in ``may_lack`` it is read as zeros, marked in a boolean mask ``KIND.missing`` (M,).

    Args:
        dataset: dataset that stores the content.
        item_keys: (N+1,) key of each item number in the dataset, as in ``dataset.interactions.item_ids``.
        kinds: content to read, a subset of ``KINDS``.
        workers: number of decoding threads.
        may_lack: kinds that may be missing for some items.

    Raises:
        InputError: an item lacks a kind that is not in ``may_lack``, or all items lack a kind.
    """

    def __init__(
        self,
        dataset: Dataset,
        item_keys: Int64,
        kinds: frozenset[str],
        workers: int = 2,
        may_lack: frozenset[str] = frozenset(),
    ) -> None:
        self.reads = kinds
        self._dataset = dataset
        self._item_keys = item_keys
        self._pool = ThreadPoolExecutor(max(1, workers)) if kinds else None
        self._may_lack = may_lack
        self._present: dict[str, npt.NDArray[np.bool_]] = {}
        self._stores = {kind: self._open(dataset, kind) for kind in sorted(kinds)}
        clips, size = dataset.settings.clips, dataset.settings.cover_size
        self._shapes: dict[str, tuple[int, ...]] = {
            "clips": (clips.num_frames, clips.size, clips.size, 3),
            "covers": (1, size, size, 3),
            "sound": dataset.settings.sound.shape,
        }
        self._kept: dict[str, list[Rows]] = {}

    @property
    def item_keys(self) -> Int64:
        """The key of each item number in the dataset, (N+1,)."""
        return self._item_keys

    def item_id(self, number: int) -> Id:
        """The id of an item number."""
        return self._dataset.item_id(self._item_keys[number])

    def keep(self, name: str, arrays: list[Rows]) -> None:
        """Make ``arrays``, (N, ...) with item number 1 first, readable as content ``NAME.0``, ``NAME.1``, ..."""
        self._kept[name] = arrays
        self._pool = self._pool or ThreadPoolExecutor(2)

    def read(self, items: Int64) -> dict[str, Tensor]:
        """Read the content of ``items`` (M,), each (M, ...): the kinds, kept arrays and masks named in ``reads``."""
        content: dict[str, Tensor] = {}
        for name in self.reads:
            kind, _, mask = name.partition(".")
            if name in self._kept:
                for number, rows in enumerate(self._kept[name]):
                    content[f"{name}.{number}"] = torch.from_numpy(rows.read(items - 1, self._pool))
            elif not mask:
                content[kind] = torch.from_numpy(self._read_kind(kind, items))
            if kind in self._may_lack:
                content[f"{kind}.missing"] = torch.from_numpy(~self._present[kind][items])
        return content

    def _read_kind(self, kind: str, items: Int64) -> npt.NDArray[np.uint8]:
        store, present = self._stores[kind], self._present[kind][items]
        wanted = self._item_keys[items[present]].tolist()
        if kind == "sound":
            values = read_arrays(store, wanted, self._shapes[kind], self._dataset.item_id)
        elif wanted:
            values = read_images(store, wanted, self._pool, self._dataset.item_id)
        else:
            values = np.empty((0, *self._shapes[kind]), np.uint8)
        if values.shape[1:] != self._shapes[kind]:
            raise InputError(
                f"{store.path} holds {kind} of shape {values.shape[1:]}, but manifest.json has {self._shapes[kind]}; "
                "prepare the dataset again."
            )
        if present.all():
            return values
        padded = np.zeros((len(items), *values.shape[1:]), np.uint8)
        padded[present] = values
        return padded

    def _open(self, dataset: Dataset, kind: str) -> Store:
        path = dataset.folder / f"{kind}.lmdb"
        listed = dataset.interactions.item_ids[1:][dataset.items[kind].to_numpy()]
        there = Store.open(path).item_ids() if len(listed) or path.exists() else np.empty(0, np.int64)
        lost = np.setdiff1d(listed, there)
        if len(lost):
            raise InputError(
                f"{path} lacks {len(lost):,} of the items that items.parquet lists (first: item "
                f"{dataset.item_id(lost[0])}); prepare the dataset again."
            )
        self._present[kind] = np.isin(self._item_keys, there)
        missing = self._item_keys[1:][~self._present[kind][1:]]
        if len(missing) and (kind not in self._may_lack or len(missing) == len(self._item_keys) - 1):
            first = ", ".join(str(dataset.item_id(key)) for key in missing[:5])
            more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
            raise InputError(
                f"{dataset.folder}: {len(missing):,} of {len(self._item_keys) - 1:,} items have no {kind} "
                f"(items {first}{more}), which the encoder needs; leave them out with "
                f'protocol.require = ["{kind}"], give them a learned vector with encoder.missing = "mask", or prepare '
                f"a release that has them."
            )
        return Store.open(path)
