"""Splits, clips and trainers made for the measurements."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from microlens.config.sections import TrainSection
from microlens.data.batches import Batch, ItemBatch
from microlens.data.content import ItemContent
from microlens.data.interactions import Int64, Interactions
from microlens.data.item_arrays import Rows, RowWriter
from microlens.data.protocol import Protocol
from microlens.data.split import Split, make_split
from microlens.encoders import build_encoder
from microlens.encoders.content import ContentEncoder
from microlens.media.packing import pack_images
from microlens.media.store import Store, StoreWriter, read_images
from microlens.recommenders.sasrec import SASRec
from microlens.training.trainer import Trainer
from speed.gpu.bench import Bench
from speed.measure import Shape, long_tailed_sequences

ENCODED_AT_ONCE = 32


def split_of(shape: Shape) -> Split:
    """A leave-one-out split of made interactions."""
    made = long_tailed_sequences(shape)
    return split_of_sequences(made.offsets, made.items, shape.items)


def split_of_sequences(offsets: Int64, items: Int64, num_items: int) -> Split:
    """A leave-one-out split of the items (E,) of users, oldest first."""
    interactions = Interactions(
        offsets=offsets,
        items=items.astype(np.int32),
        times=np.arange(len(items)),
        user_ids=np.arange(1, len(offsets)),
        item_ids=np.arange(num_items + 1),
    )
    return make_split(interactions, Protocol())


def made_clips(count: int, frames: int, pixels: int) -> Tensor:
    """Coarse noise, which JPEG keeps about as small as it keeps pictures: (count, F, H, W, 3) uint8."""
    coarse = -(-pixels // 8)
    drawn = np.random.default_rng(0).integers(0, 256, (count, frames, coarse, coarse, 3), dtype=np.uint8)
    return torch.from_numpy(drawn.repeat(8, 2).repeat(8, 3)[:, :, :pixels, :pixels].copy())


class InMemory(ItemContent):
    """Clips that are in memory, as bytes: what a store would give without reading and decoding."""

    def __init__(self, clips: Tensor) -> None:
        self.reads, self.clips = frozenset({"clips"}), clips

    def read(self, items: Int64) -> dict[str, Tensor]:
        """The clips of ``items`` (M,)."""
        return {"clips": self.clips[torch.from_numpy(items % len(self.clips))]}


class FromStore(ItemContent):
    """Clips of a store, decoded by some threads."""

    def __init__(self, store: Store, workers: int) -> None:
        self.reads, self.store, self.count = frozenset({"clips"}), store, len(store)
        self.pool = ThreadPoolExecutor(workers)

    def read(self, items: Int64) -> dict[str, Tensor]:
        """The clips of ``items`` (M,)."""
        return {"clips": torch.from_numpy(read_images(self.store, (items % self.count).tolist(), self.pool))}


class FromCache(ItemContent):
    """The outputs of a frozen trunk on disk, read as by a run with a warm cache."""

    def __init__(self, arrays: list[Rows], workers: int) -> None:
        self.reads, self.arrays, self.pool = frozenset({"kept"}), arrays, ThreadPoolExecutor(workers)

    def read(self, items: Int64) -> dict[str, Tensor]:
        """The states of ``items`` (M,)."""
        return {
            f"kept.{number}": torch.from_numpy(rows.read(items % len(rows), self.pool))
            for number, rows in enumerate(self.arrays)
        }


@torch.inference_mode()
def keep_states(encoder: ContentEncoder, clips: Tensor, folder: Path, device: torch.device) -> None:
    """Write the frozen trunk's outputs for all clips as float16 arrays ``0.npy``, ``1.npy``, ..."""
    encoder.eval()
    folder.mkdir(parents=True)
    with ExitStack() as files:
        writers: list[RowWriter] = []
        for start in range(0, len(clips), ENCODED_AT_ONCE):
            part = clips[start : start + ENCODED_AT_ONCE]
            items = ItemBatch(items=torch.arange(len(part)), content={"clips": part}).to(device)
            states = [state.half().cpu().numpy() for state in encoder.frozen_state(items)]
            for number, state in enumerate(states[len(writers) :]):
                writer = RowWriter(folder / f"{number}.npy", (len(clips), *state.shape[1:]), np.float16)
                writers.append(files.enter_context(writer))
            for writer, state in zip(writers, states, strict=True):
                writer.write(start, state)


def write_store(clips: Tensor, path: Path) -> Store:
    """A store of clips as JPEG, packed by all cores."""
    with StoreWriter(path) as writer, ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, value in enumerate(pool.map(pack_images, clips.numpy())):
            writer.put(number, value)
    return Store.open(path)


def video_model(split: Split, encoder: dict[str, Any], dim: int, clip_shape: tuple[int, int]) -> SASRec:
    """SASRec over a video encoder, with weights that depend on nothing."""
    torch.manual_seed(0)
    tower = build_encoder(encoder, {"dim": dim, "clip_shape": clip_shape})
    return SASRec(item_encoder=tower, dim=dim, history_length=split.history_length, dropout=0.1)


def trainer_of(bench: Bench, model: SASRec, split: Split, content: ItemContent, **settings: Any) -> Trainer:
    """The trainer of ``model`` on the device."""
    return Trainer(
        model.to(bench.device), split, content, TrainSection.model_validate(settings),
        seed=0, folder=bench.folder, device=bench.device, identity={},
    )  # fmt: skip


def endless(trainer: Trainer) -> Iterator[Batch]:
    """The trainer's batches, epoch after epoch, without the shorter last ones."""
    while True:
        for batch in trainer.batches():
            if len(batch.users) == trainer.settings.batch_size:
                yield batch
        trainer.progress.epoch += 1
