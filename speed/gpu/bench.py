"""What all parts share: device, sizes, time limit, and timers that synchronize with the GPU."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from microlens.cost.counting import flop_counter
from microlens.data.batches import Batch
from microlens.training.trainer import Trainer
from speed.measure import MICROLENS_100K, SMOKE, Shape

MICROLENS_1M = Shape(users=1_000_000, items=91_402, interactions=9_095_620)
Figures = dict[str, Any]
Case = tuple[str, Callable[[], Figures]]
"""The name of a case and the function that measures it."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of the synthetic data.

    Clips are ``frames`` x ``pixels`` x ``pixels``; an item's clip is the one of its number modulo ``clips``. Steps are
    timed until there are ``steps``, or they took ``seconds``, after ``warm`` untimed ones.
    """

    shape: Shape = MICROLENS_100K
    large: Shape = MICROLENS_1M
    matrix: int = 8192
    copied_bytes: int = 1 << 30
    batch: int = 512
    dims: tuple[int, ...] = (512, 64)
    network: str = "slowfast_r50"
    light_network: str = "x3d_xs"
    transformers: tuple[str, ...] = ("videomae", "mvit_b_16x4")
    compared_networks: tuple[str, ...] = ("x3d_xs", "r3d_r18", "slowfast_r50")
    compared_pixels: int = 64
    dim: int = 512
    frames: int = 5
    pixels: int = 224
    clips: int = 2048
    users: int = 120
    users_of_transformers: int = 30
    warm: int = 2
    steps: int = 50
    seconds: float = 6.0
    compiles: bool = True


TINY = Sizes(
    shape=SMOKE, large=SMOKE, matrix=64, copied_bytes=1 << 16, batch=32, dims=(8,), network="x3d_xs",
    transformers=("mvit_b_16x4",), compared_networks=("x3d_xs",), compared_pixels=16, dim=8, frames=2, pixels=32,
    clips=4, users=2, users_of_transformers=2, warm=1, steps=1, seconds=0.5, compiles=False,
)  # fmt: skip


@dataclass(kw_only=True)
class Bench:
    """One run of the program; ``ceilings`` are the measured rates that others are related to."""

    device: torch.device
    sizes: Sizes
    folder: Path
    ends: float
    cores: int
    ceilings: dict[str, float] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.ends - time.monotonic()

    def wait(self) -> None:
        """Wait until all work on the device has finished."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def forget_peak(self) -> None:
        """Reset the peak memory."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_gigabytes(self) -> float | None:
        """Peak memory of tensors on the GPU since :meth:`forget_peak`; None on a CPU."""
        return round(torch.cuda.max_memory_allocated(self.device) / 1e9, 3) if self.device.type == "cuda" else None

    def seconds_of(self, work: Callable[[], object], *, warm: int = 2, most: int = 20, limit: float = 2.0) -> float:
        """The median seconds of ``work``, after some untimed runs."""
        for _ in range(warm):
            work()
        self.wait()
        times: list[float] = []
        while len(times) < most and sum(times) < min(limit, max(self.left, 0.1)):
            begin = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - begin)
        return statistics.median(times)

    def steps(self, trainer: Trainer, batches: Iterator[Batch], *, rate: str) -> Figures:
        """Time training steps; the wait for a batch and the step itself are timed separately.

        Args:
            trainer: whose steps.
            batches: at least as many batches as are timed.
            rate: the measured matrix rate that the step's is related to, a key of ``ceilings``.
        """
        self.forget_peak()
        for _ in range(self.sizes.warm):
            float(trainer.step(next(batches)))
        self.wait()
        waits: list[float] = []
        times: list[float] = []
        while len(times) < self.sizes.steps and sum(waits) + sum(times) < min(self.sizes.seconds, max(self.left, 0.1)):
            begin = time.perf_counter()
            batch = next(batches)
            middle = time.perf_counter()
            float(trainer.step(batch))
            self.wait()
            waits.append(middle - begin)
            times.append(time.perf_counter() - middle)
        peak = self.peak_gigabytes()
        batch = next(batches)
        with flop_counter() as counter:
            trainer.step(batch)
        step, whole = statistics.median(times), statistics.mean(waits) + statistics.mean(times)
        flops = counter.get_total_flops()
        return {
            "steps_timed": len(times),
            "steps_per_second": round(1 / whole, 3),
            "step_ms": round(1e3 * step, 3),
            "wait_for_data_ms": round(1e3 * statistics.median(waits), 3),
            "share_of_time_waiting": round(sum(waits) / (sum(waits) + sum(times)), 3),
            "minutes_per_epoch": round(trainer.steps_per_epoch * whole / 60, 3),
            "distinct_items": len(batch.distinct),
            "gigaflops_per_step": round(flops / 1e9, 2),
            "teraflops_per_second": round(flops / step / 1e12, 2),
            **self.share_of(rate, flops / step / 1e12),
            "peak_gigabytes": peak,
        }

    def share_of(self, name: str, value: float) -> Figures:
        """``value`` as a fraction of a ceiling, if that was measured."""
        return {f"share_of_{name}": round(value / self.ceilings[name], 4)} if name in self.ceilings else {}
