"""Ranking every user's test target in the whole catalogue."""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from microlens.data.content import ItemContent
from microlens.data.split import Split
from microlens.encoders.id import IdEncoder
from microlens.evaluation.ranking import rank_targets
from microlens.recommenders.sasrec import SASRec
from speed.gpu.bench import Bench, Case, Figures
from speed.gpu.worlds import split_of, split_of_sequences
from speed.measure import long_tailed_sequences

SAMPLE = 2048
TIED = 1e-3  # share of ranks that may differ, by float32's rounding of near ties


class NoContent(ItemContent):
    """For encoders that need item numbers alone."""

    def __init__(self) -> None:
        self.reads = frozenset()


def cases(bench: Bench) -> Iterator[Case]:
    """Equal ranks on CPU and GPU, then both catalogues, at all vector sizes."""
    small = split_of(bench.sizes.shape)
    yield "same ranks as on the CPU", lambda: same_ranks(bench, small)
    for dim in reversed(bench.sizes.dims):
        yield f"{small.num_users:,} users, {small.num_items:,} items, D={dim}", lambda dim=dim: rate(bench, small, dim)
    large = large_split(bench)
    for dim in reversed(bench.sizes.dims):
        yield f"{large.num_users:,} users, {large.num_items:,} items, D={dim}", lambda dim=dim: rate(bench, large, dim)


def large_split(bench: Bench) -> Split:
    """A split of MicroLens-1M's users and items; every tenth user has a sequence of the same length."""
    shape = bench.sizes.large
    lengths = np.diff(long_tailed_sequences(bench.sizes.shape).offsets)
    lengths = np.resize(lengths, shape.users)
    items = np.random.default_rng(0).integers(1, shape.items + 1, lengths.sum())
    return split_of_sequences(np.concatenate([[0], np.cumsum(lengths)]), items, shape.items)


def model_of(split: Split, dim: int) -> SASRec:
    """SASRec on ids with weights that depend on nothing."""
    torch.manual_seed(0)
    encoder = IdEncoder(num_items=split.num_items, dim=dim)
    return SASRec(item_encoder=encoder, dim=dim, history_length=split.history_length)


def first_users(split: Split, count: int) -> Split:
    """The split of the first ``count`` users, with all items as candidates."""
    of_users = {name: getattr(split, name)[:count] for name in ("train_ends", "valid_ends", "users_kept")}
    return replace(split, offsets=split.offsets[: count + 1], **of_users)


def same_ranks(bench: Bench, split: Split) -> Figures:
    """The ranks of a sample on both devices.

    Raises:
        AssertionError: more differ than rounding explains, or one by more than a place.
    """
    sample, dim = first_users(split, SAMPLE), bench.sizes.dims[-1]
    model = model_of(split, dim)
    ranks = [
        rank_targets(model.to(device), NoContent(), sample, "test", device)
        for device in (torch.device("cpu"), bench.device)
    ]
    apart = np.abs(ranks[0] - ranks[1])
    figures = {"users": len(apart), "share_that_differs": float((apart > 0).mean()), "largest": int(apart.max())}
    assert figures["share_that_differs"] <= TIED or figures["largest"] <= 1, f"the ranks differ: {figures}"
    return figures


def rate(bench: Bench, split: Split, dim: int) -> Figures:
    """Users a second, all of them ranked once after a warm-up on some."""
    model = model_of(split, dim).to(bench.device)
    rank_targets(model, NoContent(), first_users(split, SAMPLE), "test", bench.device)
    bench.wait()
    bench.forget_peak()
    begin = time.perf_counter()
    rank_targets(model, NoContent(), split, "test", bench.device)
    bench.wait()
    seconds = time.perf_counter() - begin
    rate = 2 * split.num_users * split.num_items * dim / seconds / 1e12
    return {
        "seconds": round(seconds, 3),
        "users_per_second": round(split.num_users / seconds),
        "teraflops_per_second": round(rate, 2),
        **bench.share_of("fp32_teraflops", rate),
        "peak_gigabytes": bench.peak_gigabytes(),
    }
