"""Gradient caching: encode a batch's items in parts, so that the memory of a step does not grow with the batch."""

import ctypes
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from microlens.data.batches import ItemBatch
from microlens.encoders.content import frozen_batchnorm_statistics
from microlens.recommenders.base import Recommender

LARGE_BLOCK = 8 * 1024**2
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def encode_in_parts(
    model: Recommender, items: ItemBatch, device: torch.device, *, micro_batch: int, norm_batch: int
) -> Tensor:
    """Encode the items of a training batch: (M, D), with the same gradient as encoding them all at once.

    Towers that read content encode ``micro_batch`` items at a time. With more items than that, activations are not
    kept: each part is encoded again, with the same dropout, when its gradient arrives (gradient caching, Gao et al.
    2021, arXiv 2101.06983). If BatchNorm layers are trained, a part has about ``norm_batch`` items, independent of
    ``micro_batch``, and BatchNorm statistics are taken over the part (Hoffer et al. 2017, arXiv 1705.08741);
    ``micro_batch`` never changes the result.

    Args:
        model: the recommender, in training mode.
        items: (M,) distinct items; their content may be on another device and is moved part by part.
        device: device of the model.
        micro_batch: maximum number of items whose activations are in memory.
        norm_batch: number of items that share BatchNorm statistics.
    """
    encoder = model.item_encoder
    if not encoder.sees_content:
        return model.encode_items(items.to(device))
    size = norm_batch if encoder.batch_statistics else micro_batch
    recompute = len(items) > micro_batch and bool(encoder.content_groups())
    if recompute:
        _free_large_blocks_at_once()

    def encode(first: int, last: int, _: Tensor) -> Tensor:
        return model.encode_items(items.at(slice(first, last)).to(device))

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), frozen_batchnorm_statistics(encoder)

    # PyTorch keeps a GPU's random state, from which dropout is drawn again, only if an argument is on that GPU.
    here = torch.empty(0, device=device)
    vectors = []
    for first, last in equal_parts(len(items), size):
        if recompute:
            vectors.append(checkpoint(encode, first, last, here, use_reentrant=False, context_fn=contexts))
        else:
            vectors.append(encode(first, last, here))
    return torch.cat(vectors)


def equal_parts(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Split ``count`` items into the fewest near-equal parts of at most ``size``; yield (start, stop) of each."""
    parts = max(1, -(-count // size))
    for part in range(parts):
        yield part * count // parts, (part + 1) * count // parts


@cache
def _free_large_blocks_at_once() -> None:
    """Make glibc return freed activations to the system; otherwise fragmentation makes the process grow."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_TRIM_THRESHOLD, LARGE_BLOCK)
        library.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
