"""What items are made of, read by item number as it lies on disk."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from microlens.data.dataset import Dataset
from microlens.data.interactions import Int64
from microlens.data.store import Store, read_images
from microlens.errors import InputError

KINDS = ("clips",)


class ItemContent:
    """Reads the kinds of content that an encoder needs, for the items of a split.

    ``clips`` are (M, F, H, W, 3) uint8. Every item must have every kind: what is missing is an error that names it, at
    once and not in the middle of an epoch, and never a silent zero.

    Args:
        dataset: where the content lies.
        item_ids: (N+1,) the original id of each item number.
        kinds: what to read, out of ``KINDS``.
        workers: threads that decode.

    Raises:
        InputError: an item lacks a kind.
    """

    def __init__(self, dataset: Dataset, item_ids: Int64, kinds: frozenset[str], workers: int = 2) -> None:
        self.kinds = kinds
        self._item_ids = item_ids
        self._pool = ThreadPoolExecutor(max(1, workers)) if kinds else None
        self._stores = {kind: self._open(dataset, kind) for kind in sorted(kinds)}

    def read(self, items: Int64) -> dict[str, Tensor]:
        """The content of ``items`` (M,) by kind, each (M, ...)."""
        ids = self._item_ids[items]
        return {
            kind: torch.from_numpy(read_images(store, ids.tolist(), self._pool)) for kind, store in self._stores.items()
        }

    def _open(self, dataset: Dataset, kind: str) -> Store:
        path = dataset.folder / f"{kind}.lmdb"
        present = Store.open(path).item_ids() if path.exists() else np.empty(0, np.int64)
        missing = np.setdiff1d(self._item_ids[1:], present)
        if len(missing):
            more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
            raise InputError(
                f"{dataset.folder}: {len(missing):,} of {len(self._item_ids) - 1:,} items have no {kind} "
                f"(items {', '.join(map(str, missing[:5]))}{more}), which the encoder needs; leave them out with "
                f'protocol.require = ["{kind}"], or prepare a release that has them.'
            )
        return Store.open(path)
