"""Clips from a store through JPEG decoding to the device, and what a step waits for when they come from there."""

import time
from collections.abc import Iterator

import numpy as np
import torch

from microlens.data.batches import ItemBatch, prefetch
from microlens.media.store import Store
from speed.gpu.bench import Bench, Case, Figures
from speed.gpu.videos import clips_for, full
from speed.gpu.worlds import FromStore, write_store

THREADS = (1, 4, 8, 16)
CLIPS_AT_ONCE = 512
SECONDS = 3.0


def cases(bench: Bench) -> Iterator[Case]:
    """Threads that read and decode, then whole training steps fed from the store."""
    store = write_store(clips_for(bench), bench.folder / "clips.lmdb")
    for threads in THREADS:
        yield f"{threads} threads", lambda threads=threads: clips_a_second(bench, store, threads)
    users = bench.sizes.users
    for name in (bench.sizes.network, bench.sizes.light_network):
        yield (
            f"{name} full, bf16, from the store",
            lambda name=name: full(bench, name, users, 64, "contiguous", FromStore(store, bench.cores)),
        )


def clips_a_second(bench: Bench, store: Store, threads: int) -> Figures:
    """Clips a second that arrive on the device as bytes, drawn at random, through the trainer's prefetching."""
    content = FromStore(store, threads)
    rng = np.random.default_rng(0)
    size = min(CLIPS_AT_ONCE, 4 * bench.sizes.clips)

    def batches() -> Iterator[ItemBatch]:
        while True:
            numbers = rng.integers(0, bench.sizes.clips, size)
            read = ItemBatch(items=torch.from_numpy(numbers), content=content.read(numbers))
            yield read.pinned() if bench.device.type == "cuda" else read

    arriving = prefetch(batches(), 2)
    next(arriving).to(bench.device)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < min(SECONDS, bench.sizes.seconds):
        count += len(next(arriving).to(bench.device))
        bench.wait()
    seconds = time.perf_counter() - begin
    arriving.close()
    stored = sum(len(store.get(number) or b"") for number in range(min(64, len(store)))) / min(64, len(store))
    return {"clips_per_second": round(count / seconds, 1), "bytes_per_clip": round(stored)}
