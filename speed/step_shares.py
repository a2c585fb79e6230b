"""Where the time of a training step goes, printed as JSON.

    python speed/step_shares.py [--smoke]

The shares of operations in the processor time of steps, as PyTorch's profiler attributes it, one thread: SASRec on ids
as in training.py, and X3D-XS on clips as in the demo, forward and backward. Beside them, microseconds of dropout of a
batch's states by PyTorch, which draws a number for each element, and by ours, which draws one for four.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import Line, print_result
from torch import nn
from torch.profiler import ProfilerActivity, profile
from training import endless, run_of, trainer_of

from microlens.encoders.video.x3d import X3D_NETWORKS
from microlens.environment import keep_freed_memory
from microlens.recommenders.dropout import Dropout

STEPS = {64: 30, 512: 6}
EVENTS = 704  # of a batch of 128 users
CLIPS = (128, 3, 4, 32, 32)
CLIP_STEPS = 3
REPEATS = 100
# Operations by what they are for; the share of each includes its gradient.
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "convolutions": ("aten::mkldnn_convolution", "aten::convolution_backward"),
    "normalization": (
        "aten::native_batch_norm", "aten::native_batch_norm_backward", "aten::native_layer_norm",
        "aten::native_layer_norm_backward",
    ),
    "softmax": (
        "aten::_softmax", "aten::_softmax_backward_data", "aten::_log_softmax", "aten::_log_softmax_backward_data",
    ),
    "random numbers": ("aten::random_", "aten::bernoulli_", "aten::lt"),
    "filling": ("aten::fill_", "aten::zero_", "aten::masked_fill_"),
    "copying and looking up": (
        "aten::copy_", "aten::cat", "aten::index", "aten::index_select", "aten::index_copy_", "aten::index_add_",
        "aten::_index_put_impl_", "aten::embedding_dense_backward",
    ),
    "optimizer": ("aten::_fused_adamw_", "Optimizer.step#RowAdamW.step"),
}  # fmt: skip


def shares(step: Callable[[], object], steps: int) -> dict[str, Any]:
    """Milliseconds of a step without the profiler, and the percentage of each kind of operation."""
    step()
    begin = time.process_time()
    for _ in range(steps):
        step()
    milliseconds = 1000 * (time.process_time() - begin) / steps
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(steps):
            step()
    times = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    total = sum(times.values())
    found = {kind: sum(times.get(name, 0.0) for name in names) for kind, names in KINDS.items()}
    found["other operations"] = total - sum(found.values())
    percent = {kind: round(100 * value / total, 1) for kind, value in found.items()}
    return {"cpu_milliseconds": round(milliseconds, 2), "percent": percent}


def step_of_ids(folder: Path, smoke: bool, dim: int) -> Callable[[], object]:
    """A step of SASRec on ids."""
    run = run_of(str(folder), smoke, dim, 1)
    trainer = trainer_of(run, folder)
    batches = endless(trainer)
    return lambda: float(trainer.step(next(batches)))


def step_of_clips(smoke: bool) -> Callable[[], object]:
    """Features of clips and their gradient."""
    network = X3D_NETWORKS["x3d_xs"].build().train()
    clips = torch.randn(2 if smoke else CLIPS[0], *CLIPS[1:])
    return lambda: network.features(clips).sum().backward()


def mask_microseconds(kind: type[nn.Dropout], dim: int) -> float:
    """Microseconds of dropout of the states of a batch."""
    layer, states = kind(0.1), torch.randn(EVENTS, dim)
    layer(states)
    begin = time.process_time()
    for _ in range(REPEATS):
        layer(states)
    return round(1e6 * (time.process_time() - begin) / REPEATS, 1)


def main() -> None:
    """Profile all steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that the program works")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as in training
    masks = {
        f"D={dim}": {"PyTorch": mask_microseconds(nn.Dropout, dim), "microlens": mask_microseconds(Dropout, dim)}
        for dim in STEPS
    }
    with tempfile.TemporaryDirectory() as name:
        results = {
            f"SASRec on ids, D={dim}": shares(
                step_of_ids(Path(name), options.smoke, dim), 1 if options.smoke else steps
            )
            for dim, steps in STEPS.items()
        }
    results["X3D-XS, forward and backward"] = shares(step_of_clips(options.smoke), 1 if options.smoke else CLIP_STEPS)
    least = min(way["PyTorch"] / way["microlens"] for way in masks.values())
    lines = [Line(what="dropout, times as fast", measured=least, unit="x", bound="at least", reach=1.0)]
    figures = {"capability": torch.backends.cpu.get_cpu_capability(), "steps": results, "mask_microseconds": masks}
    print_result("step_shares", options, [1], figures, lines)


if __name__ == "__main__":
    main()
