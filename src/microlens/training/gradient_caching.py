"""Encoding the items of a batch in parts, so that the memory of a step does not grow with the batch."""

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
    """Encode the items of a training batch: (M, D), with the gradient of encoding them all at once.

    Towers that see content encode ``micro_batch`` items at a time. If there are more, no part keeps its activations:
    each is encoded again when its gradient arrives (gradient caching, Gao et al. 2021, arXiv 2101.06983), with the same
    dropout. Where BatchNorm layers are trained, a part has about ``norm_batch`` items whatever ``micro_batch`` is, and
    is what they take their statistics over (Hoffer et al. 2017, arXiv 1705.08741): ``micro_batch`` changes no number.

    Args:
        model: the recommender, in training mode.
        items: (M,) distinct items; their content may lie on another device, and is moved part by part.
        device: where the model is.
        micro_batch: items whose activations fit into memory.
        norm_batch: items that share the statistics of BatchNorm layers.
    """
    encoder = model.item_encoder
    if not encoder.sees_content:
        return model.encode_items(items.to(device))
    size = norm_batch if encoder.batch_statistics else micro_batch
    recompute = len(items) > micro_batch and bool(encoder.content_groups())
    if recompute:
        _free_large_blocks_at_once()

    def encode(first: int, last: int) -> Tensor:
        return model.encode_items(items.at(slice(first, last)).to(device))

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), frozen_batchnorm_statistics(encoder)

    vectors = []
    for first, last in equal_parts(len(items), size):
        if recompute:
            vectors.append(checkpoint(encode, first, last, use_reentrant=False, context_fn=contexts))
        else:
            vectors.append(encode(first, last))
    return torch.cat(vectors)


def equal_parts(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut ``count`` things into the fewest parts of at most ``size``, as equal as can be: (first, last + 1) of each."""
    parts = max(1, -(-count // size))
    for part in range(parts):
        yield part * count // parts, (part + 1) * count // parts


@cache
def _free_large_blocks_at_once() -> None:
    """Keep glibc from holding on to freed activations, whose pieces it fills in a way that lets the process grow."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_TRIM_THRESHOLD, LARGE_BLOCK)
        library.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
