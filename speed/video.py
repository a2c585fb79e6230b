"""What end-to-end training on videos costs, ours beside the plain way, printed as JSON.

    python speed/video.py [--smoke] [--dataset FOLDER] [--repeats 3]

The plain way is the original's: every slot of a batch is encoded, padding and repeats included, pixels come as
normalised float32, and a frozen trunk is run in every step. Both train on the same users of a prepared dataset
(MicroLens-50K for the figures kept here; made ones of its kind without --dataset) with made clips, each in a process of
its own, in turn, and compute the same loss of one batch, BatchNorm in eval mode and without dropout; the program ends
with an error where they differ.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contestants import Turns, contestant, in_turns
from measure import Int64, Line, Shape, long_tailed_sequences, peak_bytes, print_result, side_by_side, write_release
from original_algorithm import OriginalAlgorithm, OriginalTraining, collate
from torch import Tensor, nn
from torch.nn import functional

from microlens.config.run_config import RunConfig
from microlens.cost import encoder_cost
from microlens.data.batches import Batch, ItemBatch, make_batch, train_batches
from microlens.data.content import ItemContent
from microlens.data.dataset import Dataset
from microlens.data.item_arrays import Rows, RowWriter
from microlens.data.prepare import prepare
from microlens.data.protocol import Protocol
from microlens.data.split import Split
from microlens.encoders import build_encoder
from microlens.encoders.content import ContentEncoder
from microlens.encoders.video import VIDEO_NETWORKS
from microlens.media.decoding import Settings
from microlens.media.packing import pack_images
from microlens.media.store import Store, StoreWriter, read_images
from microlens.recommenders.sasrec import SASRec
from microlens.training.trainer import Trainer

FULL = ("x3d_xs", "slowfast_r50")
TOP1 = ("x3d_xs", "r3d_r50", "slowfast_r50", "csn_r101")
FRAMES, SIZE, DIM = 5, 32, 64
BATCH_SIZE = 32
BANK = 512  # made clips; an item's is the one of its number modulo this
TOLERANCE = 1e-4
MADE = Shape(users=50_000, items=19_220, interactions=359_708)
SMOKE = Shape(users=300, items=150, interactions=2_158)
MEMORY_SIZE, MEMORY_MICRO_BATCH, MEMORY_USERS = 64, 16, (8, 32, 120)


class MadeClips(ItemContent):
    """Clips that are in memory already, as bytes, and what a frozen trunk made of them."""

    def __init__(self, frames: int, size: int) -> None:
        self.reads = frozenset({"clips"})
        self.bank = torch.from_numpy(
            np.random.default_rng(0).integers(0, 256, (BANK, frames, size, size, 3), dtype=np.uint8)
        )
        self.kept: dict[str, Rows] = {}

    def read(self, items: Any) -> dict[str, Tensor]:
        """The clips, or the states kept for them, of ``items`` (M,)."""
        if self.kept:
            return {name: torch.from_numpy(rows.read(items % BANK)) for name, rows in self.kept.items()}
        return {"clips": self.bank[torch.from_numpy(items % BANK)]}

    def keep_states(self, encoder: ContentEncoder, folder: Path) -> None:
        """Run the frozen links once over all clips and read their states from then on."""
        encoder.eval()
        states = encoder.frozen_state(ItemBatch(items=torch.arange(BANK), content={"clips": self.bank}))
        for number, state in enumerate(states):
            with RowWriter(folder / f"{number}.npy", state.shape, np.float16) as writer:
                writer.write(0, state.half().numpy())
        self.read_states(encoder, folder)

    def read_states(self, encoder: ContentEncoder, folder: Path) -> None:
        """Read the states that were kept in ``folder`` from now on, if there are any."""
        self.kept = {f"kept.{path.stem}": Rows(path) for path in sorted(folder.glob("*.npy"))}
        if self.kept:
            encoder.use_cache("kept")


class EverySlot(nn.Module):
    """The plain way to encode: float32 pixels, normalised ahead, through the whole network; blank clips for padding."""

    def __init__(self, encoder: ContentEncoder, bank: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        pixels = encoder.content(ItemBatch(items=torch.arange(BANK), content={"clips": bank}))
        self.pixels = torch.cat([pixels.contiguous(), torch.zeros_like(pixels[:1])])

    def forward(self, items: Tensor) -> Tensor:
        """Encode (M,) slots: (M, D)."""
        features = self.encoder.trunk.features(self.pixels[torch.where(items > 0, items % BANK, BANK)])
        return functional.gelu(self.encoder.projection(features))


def split_of(dataset: Path | None, folder: Path, shape: Shape) -> Split:
    """The split of a prepared dataset, or of made interactions, which are prepared at the first call."""
    dataset = dataset or folder / "dataset"
    if not dataset.exists():
        prepare(write_release(folder / "release", long_tailed_sequences(shape), "tsv"), dataset, Settings())
    return Dataset(dataset).split(Protocol())


def model_of(split: Split, name: str, tune: str, clip_shape: tuple[int, int] = (FRAMES, SIZE)) -> SASRec:
    """SASRec over a video encoder with fixed random weights."""
    torch.manual_seed(0)
    encoder = build_encoder({"name": name, "tune": tune}, {"dim": DIM, "clip_shape": clip_shape})
    return SASRec(item_encoder=encoder, dim=DIM, history_length=split.history_length, dropout=0.0)


def trainer_of(split: Split, content: ItemContent, model: SASRec, folder: Path, **settings: Any) -> Trainer:
    """The trainer of ``model``."""
    config = RunConfig.model_validate(
        {
            "dataset": folder,
            "output": folder,
            "model": {"name": "sasrec"},
            "train": {"device": "cpu", "micro_batch": 100_000, "norm_batch": 100_000, **settings},
        }
    )
    return Trainer(
        model, split, content, config.train, seed=0, folder=folder, device=torch.device("cpu"), identity={}
    )  # fmt: skip


def users_of(split: Split, count: int) -> list[Int64]:
    """The users of the first batches of an epoch, every batch a full one."""
    order = np.random.default_rng(0).permutation(split.num_users)
    return [order[start : start + BATCH_SIZE] for start in range(0, count * BATCH_SIZE, BATCH_SIZE)]


def batch_of(split: Split, users: Int64, content: ItemContent) -> Batch:
    """Our batch of these users."""
    return make_batch(split.train_sequences(users), users, content)


def slots_of(split: Split, users: Int64) -> tuple[Tensor, Tensor]:
    """The plain way's batch of these users: every slot, and which are read."""
    rows = [[item for item in row if item] for row in split.train_sequences(users).tolist()]
    return collate(rows, split.history_length + 1)


def train_ours(turns: Turns, dataset: str | None, folder: str, smoke: bool, name: str, tune: str, batches: int) -> None:
    """Our steps, making the batches included."""
    torch.set_num_threads(1)
    split = split_of(dataset and Path(dataset), Path(folder), SMOKE if smoke else MADE)
    model, content = model_of(split, name, tune), MadeClips(FRAMES, SIZE)
    assert isinstance(model.item_encoder, ContentEncoder)
    content.read_states(model.item_encoder, states_of(folder, name, tune))
    trainer = trainer_of(split, content, model, Path(folder))
    users = iter(users_of(split, batches))
    turns.take(lambda: trainer.step(batch_of(split, next(users), content)))


def train_plainly(
    turns: Turns, dataset: str | None, folder: str, smoke: bool, name: str, tune: str, batches: int
) -> None:
    """Steps of the plain way, on batches and pixels made ahead."""
    torch.set_num_threads(1)
    split = split_of(dataset and Path(dataset), Path(folder), SMOKE if smoke else MADE)
    plain = plain_model(split, model_of(split, name, tune), MadeClips(FRAMES, SIZE))
    training = OriginalTraining(plain, lr=1e-4, weight_decay=0.1)
    slots = iter([slots_of(split, users) for users in users_of(split, batches)])
    turns.take(lambda: training.step(*next(slots)))


def plain_model(split: Split, model: SASRec, content: MadeClips) -> OriginalAlgorithm:
    """The original algorithm over every slot's clip."""
    assert isinstance(model.item_encoder, ContentEncoder)
    counts = torch.from_numpy(split.train_counts)
    return OriginalAlgorithm(model, counts, EverySlot(model.item_encoder, content.bank))


def states_of(folder: str | Path, name: str, tune: str) -> Path:
    """Where the states of a frozen trunk are kept."""
    return Path(folder) / f"{name}-{tune}"


def same_loss(split: Split, name: str, tune: str, folder: Path) -> dict[str, float]:
    """The loss of one batch in both ways, from the same weights; keeps the states of a frozen trunk for the turns.

    Raises:
        AssertionError: they differ by more than the tolerance.
    """
    content = MadeClips(FRAMES, SIZE)
    ours = model_of(split, name, tune)
    assert isinstance(ours.item_encoder, ContentEncoder)
    plain = plain_model(split, model_of(split, name, tune), content)
    if ours.item_encoder.cacheable:
        states_of(folder, name, tune).mkdir()
        content.keep_states(ours.item_encoder, states_of(folder, name, tune))
    trainer = trainer_of(split, content, ours, folder)
    (users,) = users_of(split, 1)
    ours.eval()
    plain.eval()
    with torch.inference_mode():
        loss = float(trainer.step_module.eval()(batch_of(split, users, content)))
        plain_loss = float(plain(*slots_of(split, users))[0])
    tolerance = TOLERANCE if not content.kept else 10 * TOLERANCE  # float16 states
    assert abs(loss - plain_loss) <= tolerance * plain_loss, (loss, plain_loss)
    return {"ours": loss, "plain": plain_loss}


def compare(options: argparse.Namespace, split: Split, name: str, tune: str, folder: Path) -> dict[str, Any]:
    """Seconds of a step in both ways, from the same weights and on the same users, and their loss."""
    loss = same_loss(split, name, tune, folder)
    batches = options.repeats + 1
    of_case = {"dataset": options.dataset, "folder": folder, "smoke": options.smoke, "name": name, "tune": tune}
    commands = {
        "ours": contestant(train_ours, **of_case, batches=batches),
        "plain": contestant(train_plainly, **of_case, batches=batches),
    }
    costs = {name: way.cost for name, way in in_turns(commands, options.repeats, warm_up=1).items()}
    nothing = MadeClips(1, 1)
    return {
        **costs,
        "loss": loss,
        "speedup_cpu": costs["plain"].cpu_seconds / costs["ours"].cpu_seconds,
        "items_a_step": {
            "ours": float(
                np.mean([len(batch_of(split, users, nothing).distinct) for users in users_of(split, batches)])
            ),
            "plain": BATCH_SIZE * (split.history_length + 1),
        },
    }


def limits() -> dict[str, float]:
    """How many times as fast a warm cache can make a "top1" step, by multiply-adds, for every video encoder."""
    return {name: round(encoder_cost(name, (FRAMES, 224)).speedup_limit, 3) for name in VIDEO_NETWORKS}


def reading(folder: Path, repeats: int) -> dict[str, Any]:
    """Clips of 5 x 224 x 224 read a CPU second from JPEG, and trained on a CPU second by the fastest encoder."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (64, FRAMES, 28, 28, 3), dtype=np.uint8)
    clips = coarse.repeat(8, 2).repeat(8, 3)
    with StoreWriter(folder / "clips.lmdb") as writer:
        for number, clip in enumerate(clips):
            writer.put(number, pack_images(clip))
    store = Store.open(folder / "clips.lmdb")
    torch.manual_seed(0)
    encoder = build_encoder({"name": "x3d_xs"}, {"dim": DIM, "clip_shape": (FRAMES, 224)}).train()
    batch = ItemBatch(items=torch.arange(8), content={"clips": torch.from_numpy(clips[:8])})
    costs = side_by_side(
        {
            "read 64 clips": lambda: read_images(store, range(64)),
            "train x3d_xs on 8 clips": lambda: encoder(batch).square().sum().backward(),
        },
        repeats,
    )
    read, trained = 64 / costs["read 64 clips"].cpu_seconds, 8 / costs["train x3d_xs on 8 clips"].cpu_seconds
    return {
        **costs,
        "clips_read_a_cpu_second": read,
        "clips_trained_a_cpu_second": trained,
        "bytes_an_item": {
            "stored": sum(len(store.get(number) or b"") for number in range(64)) / 64,
            "as float32": 4 * clips[0].size,
        },
    }


def peak_of(users: int, dataset: Path | None, folder: Path, shape: Shape) -> dict[str, int]:
    """The most memory of two steps with this many users a batch, beyond what was there; for a process of its own."""
    torch.set_num_threads(1)
    split = split_of(dataset, folder, shape)
    content = MadeClips(FRAMES, MEMORY_SIZE)
    model = model_of(split, "x3d_xs", "full")
    trainer = trainer_of(
        split, content, model, folder, micro_batch=MEMORY_MICRO_BATCH, norm_batch=MEMORY_MICRO_BATCH
    )  # fmt: skip
    before = peak_bytes()
    for batch in islice(train_batches(split, content, batch_size=users, seed=0, epoch=0), 2):
        trainer.step(batch)
    return {"beyond_what_was_there": peak_bytes() - before, "whole_process": peak_bytes()}


def memory(dataset: Path | None, smoke: bool) -> dict[int, dict[str, int]]:
    """Peak memory by users a batch, each in a process of its own."""
    command = [
        sys.executable,
        __file__,
        *(["--smoke"] if smoke else []),
        *(["--dataset", str(dataset)] if dataset else []),
    ]
    return {
        users: json.loads(
            subprocess.run([*command, "--peak-of", str(users)], check=True, stdout=subprocess.PIPE).stdout
        )
        for users in MEMORY_USERS
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data, one encoder")
    parser.add_argument("--dataset", type=Path, help="a prepared dataset whose sequences to train on")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = SMOKE if options.smoke else MADE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.peak_of:
            print(json.dumps(peak_of(options.peak_of, options.dataset, folder, shape)))
            return
        torch.set_num_threads(1)
        peaks = memory(options.dataset, options.smoke)
        split = split_of(options.dataset, folder, shape)
        full = {name: compare(options, split, name, "full", folder) for name in FULL[: 1 if options.smoke else None]}
        top1 = {name: compare(options, split, name, "top1", folder) for name in TOP1[: 1 if options.smoke else None]}
        read = reading(folder, options.repeats)
        bounds = limits()
        clips = {"frames": FRAMES, "size": SIZE, "users_a_batch": BATCH_SIZE}
    small, *_, large = (peaks[users]["beyond_what_was_there"] for users in MEMORY_USERS)
    lines = [
        *(
            Line(
                what=f"full tuning of {name}, times as fast",
                measured=row["speedup_cpu"],
                unit="x",
                bound="at least",
                reach=2.0,
            )
            for name, row in full.items()
        ),
        *(
            Line(
                what=f"top1 of {name} with a warm cache, times as fast",
                measured=row["speedup_cpu"],
                unit="x",
                bound="at least",
                reach=5.0,
            )
            for name, row in top1.items()
        ),
        Line(
            what="clips read for one trained on",
            measured=read["clips_read_a_cpu_second"] / read["clips_trained_a_cpu_second"],
            unit="x",
            bound="at least",
            reach=1.0,
        ),
        Line(what="memory at 120 users over that at 8", measured=large / small, unit="x", bound="at most", reach=1.1),
    ]
    results = {
        "clips": clips,
        "full": full,
        "top1": top1,
        "top1_limits_of_a_warm_cache": bounds,
        "reading": read,
        "peak_bytes": peaks,
    }
    print_result("video", options, [1], results, lines)


if __name__ == "__main__":
    main()
