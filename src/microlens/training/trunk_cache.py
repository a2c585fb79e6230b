"""Caches of frozen trunks: run once over the catalogue, so that training starts from their outputs."""

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

import microlens
from microlens.data.batches import Process
from microlens.data.content import ItemContent
from microlens.data.dataset import Dataset
from microlens.data.interactions import Int64
from microlens.encoders.base import ItemEncoder
from microlens.encoders.content import ContentEncoder
from microlens.training.extraction import OnProgress, extract


def use_trunk_caches(
    encoder: ItemEncoder,
    content: ItemContent,
    dataset: Dataset,
    item_keys: Int64,
    device: torch.device,
    *,
    process: Process | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Make every tower of ``encoder`` with a frozen trunk read the trunk's outputs from the dataset's ``cache`` folder.

    A missing cache is computed: float16, one row per item, named by a digest of the weights, the content and the depth
    of the frozen part, so that runs that agree in these share it. ``content`` then reads the cache instead.

    Raises:
        InputError: the disk is too small, or an output does not fit float16.
    """
    for tower in encoder.towers():
        if isinstance(tower, ContentEncoder) and tower.cacheable:
            _use_cache(tower, content, dataset, item_keys, device, process, on_progress)
    content.reads = encoder.reads


def _use_cache(
    tower: ContentEncoder,
    content: ItemContent,
    dataset: Dataset,
    item_keys: Int64,
    device: torch.device,
    process: Process | None,
    on_progress: OnProgress | None,
) -> None:
    provenance = {
        "trunk": type(tower.trunk).__name__,
        "sees": sorted(tower.needs),
        "frozen_links": tower.frozen_links,
        "frozen_state": frozen_digest(tower),
        "content": dataset.checksum,
        "items": hashlib.sha256(np.ascontiguousarray(item_keys).tobytes()).hexdigest(),
        "microlens": microlens.__version__,
    }
    name = "trunk-" + hashlib.sha256(repr(sorted(provenance.items())).encode()).hexdigest()[:12]

    tower.eval()
    content.reads = tower.needs
    arrays = extract(
        tower.frozen_state,
        content,
        len(item_keys) - 1,
        dataset.folder / "cache" / name,
        provenance,
        device=device,
        half=True,
        process=process,
        on_progress=on_progress,
    )
    content.keep(name, arrays)
    tower.use_cache(name)


def frozen_digest(tower: ContentEncoder) -> str:
    """The SHA-256 of everything besides its content that an item's frozen output depends on."""
    return digest_of_tensors(_frozen_tensors(tower))


def _frozen_tensors(tower: ContentEncoder) -> Iterator[tuple[str, Tensor]]:
    stages = tower.trunk.stages()
    held: list[nn.Module] = [tower.trunk]
    if tower.frozen_links <= len(stages):
        held = [module for stage in stages[: tower.frozen_links] for module in stage.modules]
    for number, module in enumerate(held):
        for name, tensor in module.state_dict().items():
            yield f"{number}.{name}", tensor
    for name, tensor in tower.named_buffers(recurse=False):  # pixel statistics, tokens of the titles
        yield name, tensor


def digest_of_tensors(tensors: Iterator[tuple[str, Tensor]]) -> str:
    """The SHA-256 of named tensors: their names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(
            tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data
            if tensor.dim()
            else repr(tensor.item()).encode()
        )
    return digest.hexdigest()
