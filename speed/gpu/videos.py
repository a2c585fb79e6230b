"""Training on videos: the paper's top stage from a warm cache, and whole networks with gradient caching."""

import time
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from typing import Any

import torch
from torch import nn

from microlens.cost.counting import multiply_adds, on_meta
from microlens.data.batches import ItemBatch
from microlens.data.content import ItemContent
from microlens.data.item_arrays import Rows
from microlens.data.split import Split
from microlens.encoders.content import ContentEncoder
from microlens.recommenders.sasrec import SASRec
from speed.gpu.bench import Bench, Case, Figures
from speed.gpu.worlds import FromCache, InMemory, endless, keep_states, made_clips, split_of, trainer_of, video_model
from speed.measure import Shape

PAPER = "SlowFast-r50 in Table 9 of arXiv 2309.15379: Time/E 26m, A40-48G(4)"


def top1_cases(bench: Bench) -> Iterator[Case]:
    """The network with its top stage trained, in bfloat16 and float32, and with channels-last weights."""
    for precision, layout in (("bf16", "contiguous"), ("bf16", "channels-last"), ("fp32", "contiguous")):
        yield (
            f"{bench.sizes.network} top1, warm cache, {precision}, {layout}",
            lambda precision=precision, layout=layout: top1(bench, precision, layout),
        )


def full_cases(bench: Bench) -> Iterator[Case]:
    """The network trained whole, by numbers of clips at a time and layouts of the weights."""
    for parts, layout in ((64, "contiguous"), (64, "channels-last"), (128, "channels-last")):
        yield (
            f"{bench.sizes.network} full, bf16, parts of {parts}, {layout}",
            lambda parts=parts, layout=layout: full(bench, bench.sizes.network, bench.sizes.users, parts, layout),
        )


def transformer_cases(bench: Bench) -> Iterator[Case]:
    """Video transformers trained whole."""
    users = bench.sizes.users_of_transformers
    for name in bench.sizes.transformers:
        yield f"{name} full, bf16, {users} users", lambda name=name: full(bench, name, users, 64, "contiguous")


def compiled_cases(bench: Bench) -> Iterator[Case]:
    """The network trained whole with train.channels_last and train.compile."""
    if bench.sizes.compiles:
        yield (
            f"{bench.sizes.network} full, bf16, compiled, parts of 64, channels-last",
            lambda: full(bench, bench.sizes.network, bench.sizes.users, 64, "channels-last", compile=True),
        )


@cache
def split_for(shape: Shape) -> Split:
    """The split of made interactions, made once."""
    return split_of(shape)


def clips_for(bench: Bench) -> torch.Tensor:
    """The clips of the bench's sizes, made once."""
    return _clips(bench.sizes.clips, bench.sizes.frames, bench.sizes.pixels)


@cache
def _clips(count: int, frames: int, pixels: int) -> torch.Tensor:
    return made_clips(count, frames, pixels)


def top1(bench: Bench, precision: str, layout: str) -> Figures:
    """Steps of the last stage, everything below being read from a cache on disk."""
    sizes, folder = bench.sizes, bench.folder / "cache"
    model = model_of(bench, {"name": sizes.network, "tune": "top1"}, layout)
    encoder = tower_of(model)
    figures: Figures = {}
    if not folder.exists():
        begin = time.perf_counter()
        keep_states(encoder, clips_for(bench), folder, bench.device)
        figures["clips_cached_per_second"] = round(sizes.clips / (time.perf_counter() - begin), 1)
    arrays = [Rows(path) for path in sorted(folder.glob("*.npy"))]
    encoder.use_cache("kept")
    content = FromCache(arrays, bench.cores)
    return {**steps(bench, model, content, sizes.users, precision=precision), **figures, "paper": PAPER}


def full(
    bench: Bench, name: str, users: int, parts: int, layout: str, content: ItemContent | None = None, **settings: Any
) -> Figures:
    """Steps of a whole network with gradient caching, on clips that are in memory unless ``content`` is given."""
    model = model_of(bench, {"name": name}, layout)
    content = content or InMemory(clips_for(bench))
    return steps(bench, model, content, users, precision="bf16", micro_batch=parts, norm_batch=parts, **settings)


def model_of(bench: Bench, encoder: dict[str, Any], layout: str) -> SASRec:
    """SASRec over a video encoder, its convolutions' weights laid out as wanted."""
    sizes = bench.sizes
    model = video_model(split_for(sizes.shape), encoder, sizes.dim, (sizes.frames, sizes.pixels))
    if layout == "channels-last":
        for module in model.modules():
            if isinstance(module, nn.Conv3d):
                module.to(memory_format=torch.channels_last_3d)
    return model.to(bench.device)


def tower_of(model: SASRec) -> ContentEncoder:
    """The item encoder, a content encoder."""
    assert isinstance(model.item_encoder, ContentEncoder)
    return model.item_encoder


def steps(bench: Bench, model: SASRec, content: ItemContent, users: int, **settings: Any) -> Figures:
    """Time steps; also report the useful operations, without those that gradient caching repeats."""
    trainer = trainer_of(bench, model, split_for(bench.sizes.shape), content, batch_size=users, **settings)
    with closing(endless(trainer)) as batches:
        figures = bench.steps(trainer, batches, rate=f"{settings['precision']}_teraflops")
    flops = 2 * needed_multiply_adds(bench, tower_of(model)) * figures["distinct_items"]
    useful = flops / figures["step_ms"] / 1e9
    return {
        "users_per_batch": users,
        **figures,
        "useful_teraflops_per_second": round(useful, 2),
        **{f"useful_{k}": v for k, v in bench.share_of(f"{settings['precision']}_teraflops", useful).items()},
        "clips_per_second": round(1e3 * figures["distinct_items"] / figures["step_ms"], 1),
    }


def needed_multiply_adds(bench: Bench, tower: ContentEncoder) -> int:
    """Multiply-adds of a clip's forward and backward pass through the trained stages."""
    sizes = bench.sizes
    shape = (1, sizes.frames, sizes.pixels, sizes.pixels, 3)
    items = ItemBatch(
        items=torch.ones(1, dtype=torch.long, device="meta"),
        content={"clips": torch.empty(shape, dtype=torch.uint8, device="meta")},
    )
    shadow = on_meta(tower)
    counted, _ = multiply_adds(shadow, shadow.content(items))
    return counted.forward + counted.backward
