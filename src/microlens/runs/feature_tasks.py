"""Frozen features as tasks of a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from microlens.data.content import ItemContent
from microlens.data.interactions import Int64
from microlens.distributed import local_device
from microlens.encoders.content import ContentEncoder
from microlens.engines.ray_cluster import RayEngine
from microlens.errors import InputError
from microlens.runs.feature_vectors import VectorsPerItem
from microlens.training.extraction import Array, ComputeElsewhere, compute_group
from microlens.training.trunk_cache import frozen_digest

Load = Callable[[], tuple[ContentEncoder, ItemContent]]

_loaded: dict[str, tuple[ContentEncoder, ItemContent]] = {}


def compute_on(
    engine: RayEngine,
    load: Load,
    key: str,
    tower: ContentEncoder,
    device: torch.device,
    name: str,
    vectors: VectorsPerItem,
) -> ComputeElsewhere:
    """Return a function that computes the features of groups of items on a cluster, with the bits of this machine.

    Args:
        engine: the cluster.
        load: an importable function that builds ``tower`` and opens its content on a machine of the cluster.
        key: identifies what ``load`` returns.
        tower: the encoder, whose weights must be the same there.
        device: the kind of device to compute on; on a CPU, with as many threads as here.
        name: the encoder's name.
        vectors: which vectors to compute of an item.
    """
    task = partial(_features, load, key, frozen_digest(tower), torch.get_num_threads(), name, vectors)
    on_gpu = device.type == "cuda"

    def compute(groups: Sequence[Int64]) -> Iterator[list[Array]]:
        """Yield the features of each group, in order."""
        cpus = 1 if on_gpu else torch.get_num_threads()
        ready: dict[int, list[Array]] = {}
        results = engine.map_shards(task, groups, cpus=cpus, gpus=int(on_gpu))
        for group in groups:
            while int(group[0]) not in ready:
                done, arrays = next(results)
                ready[int(done[0])] = arrays
            yield ready.pop(int(group[0]))

    return compute


def _features(
    load: Load, key: str, weights: str, threads: int, name: str, vectors: VectorsPerItem, items: Int64
) -> list[Array]:
    """Compute the features of a group of items; the encoder is built once in a process."""
    torch.set_num_threads(threads)
    if key not in _loaded:
        tower, content = load()
        if frozen_digest(tower) != weights:
            raise InputError("a machine of the cluster has other weights; use the same files on all machines.")
        _loaded.clear()
        _loaded[key] = tower, content
    tower, content = _loaded[key]
    compute = vectors.compute(tower, name)
    return compute_group(compute, content, items, local_device("auto"), half=vectors.several)
