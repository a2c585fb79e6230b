"""Measuring the time and the peak memory of an encoder's training step, in a separate process."""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from microlens import environment
from microlens.cost.towers import ClipShape, build_tower, random_items
from microlens.distributed import local_device
from microlens.encoders.tuning import Tuning
from microlens.errors import InputError

BATCH_SIZE = 4
TIMED_STEPS = 3
PROCESS = f"from {__name__} import answer; answer()"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A training step under "full", including AdamW: the median of a few steps after a first one.

    ``peak_memory_bytes`` is that of the GPU, or on a CPU that of the whole process including Python and libraries.
    """

    seconds_per_step: float
    peak_memory_bytes: int
    batch_size: int
    device: str


def measure(name: str, clip_shape: ClipShape) -> Measured:
    """Measure a training step of the encoder ``name`` in a separate process.

    Raises:
        InputError: the process failed, for example because it ran out of memory.
    """
    command = [sys.executable, "-c", PROCESS, name, *map(str, clip_shape)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if process.returncode:
        said = process.stderr.strip().splitlines() or [f"its process ended with status {process.returncode}"]
        raise InputError(f"a training step of {BATCH_SIZE} items could not be measured: {said[-1]}.")
    return Measured(**json.loads(process.stdout))


def answer() -> None:
    """Entry point of the process: read an encoder's name, F and H from the command line and print JSON."""
    name, frames, size = sys.argv[1:]
    sys.stdout.write(json.dumps(asdict(_measure_here(name, (int(frames), int(size))))))


def _measure_here(name: str, clip_shape: ClipShape) -> Measured:
    device = local_device("auto")
    tower = build_tower(name, Tuning(tune="full"), clip_shape).to(device).train()
    items = random_items(tower, clip_shape, BATCH_SIZE).to(device)
    optimizer = torch.optim.AdamW(tower.parameters(), fused=True)
    seconds = []
    for _ in range(1 + TIMED_STEPS):
        started = time.monotonic()
        optimizer.zero_grad()
        loss = tower(items).square().mean()
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.monotonic() - started)
    return Measured(
        seconds_per_step=round(statistics.median(seconds[1:]), 6),
        peak_memory_bytes=_peak_memory_bytes(device),
        batch_size=BATCH_SIZE,
        device=environment.device_name(device),
    )


def _peak_memory_bytes(device: torch.device) -> int:
    """Peak memory as in the environment, but without the peak of the parent process, which Linux would pass on."""
    status = Path("/proc/self/status")
    if device.type == "cuda" or not status.exists():
        return environment.peak_memory_bytes(device)
    fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
    return int(fields["VmHWM"].removesuffix("kB")) * 1024
