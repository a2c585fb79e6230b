"""What each of the options that change how a step is computed does to its cost on this processor, printed as JSON.

    python speed/step_options.py [--smoke] [--repeats 3] [--encoders x3d_xs videomae]

Steps of SASRec over a video encoder that is trained whole, X3D-XS for convolutions and VideoMAE for matrix products: as
they are by default, and with train.precision = "bf16", train.channels_last and train.compile, one at a time. Each way
trains in a process of its own with one thread, in turn and on the same users. Compilation happens in the steps before
those that are measured, for one shape and then for all; their seconds are told apart. Beside them stand the ratios of
half precision to float32 that a run measures to warn of slow half precision.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from contestants import Turns, contestant, in_turns
from measure import Shape, print_result
from video import MadeClips, batch_of, model_of, split_of, trainer_of, users_of

from microlens.encoders.precision import times_slower

FRAMES, SIZE = 4, 64
SHAPE = Shape(users=5_000, items=2_000, interactions=35_970)
USERS = 8  # a batch; they have about 70 items
BATCHES_COMPILED = 2  # for the first shape, and for all shapes
WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "precision": {"precision": "bf16"},
    "channels_last": {"channels_last": True},
    "compile": {"compile": True},
}


def train_steps(turns: Turns, folder: str, encoder: str, way: str, batches: int) -> None:
    """Steps with one option; the seconds of those that compile are a fact."""
    torch.set_num_threads(1)
    split = split_of(None, Path(folder), SHAPE)
    content = MadeClips(FRAMES, SIZE)
    model = model_of(split, encoder, "full", (FRAMES, SIZE))
    trainer = trainer_of(split, content, model, Path(folder), **WAYS[way])
    users = (of_batch[:USERS] for of_batch in users_of(split, batches))
    seconds = []
    for _ in range(BATCHES_COMPILED):
        begin = time.perf_counter()
        trainer.step(batch_of(split, next(users), content))
        seconds.append(round(time.perf_counter() - begin, 2))
    turns.take(lambda: trainer.step(batch_of(split, next(users), content)), seconds_of_the_first_steps=seconds)


def measure(folder: Path, encoder: str, ways: list[str], repeats: int) -> dict[str, Any]:
    """The costs of a step in all ways, and how many times as fast it is with each option."""
    batches = BATCHES_COMPILED + repeats
    commands = {way: contestant(train_steps, folder=folder, encoder=encoder, way=way, batches=batches) for way in ways}
    turned = in_turns(commands, repeats)
    costs = {way: of_way.cost for way, of_way in turned.items()}
    return {
        "a_step": costs,
        "times_as_fast": {
            way: round(costs["default"].cpu_seconds / cost.cpu_seconds, 3)
            for way, cost in costs.items()
            if way != "default"
        },
        "peak_bytes": {way: of_way.peak_bytes for way, of_way in turned.items()},
        "seconds_of_the_first_steps": {
            way: of_way.facts["seconds_of_the_first_steps"] for way, of_way in turned.items()
        },
    }


def slower_in_half_precision() -> dict[str, float]:
    """The ratios that a run measures before it computes in half precision."""
    return {
        f"{name}, {operation}": round(times_slower(half, convolution=operation == "convolution"), 3)
        for name, half in {"bf16": torch.bfloat16, "fp16": torch.float16}.items()
        for operation in ("matrix product", "convolution")
    }


def main() -> None:
    """Measure every encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one encoder, without compilation")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--encoders", nargs="+", default=["x3d_xs", "videomae"])
    options = parser.parse_args()
    ways = list(WAYS)
    if options.smoke:
        options.repeats, options.encoders = 1, options.encoders[:1]
        ways.remove("compile")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        split_of(None, folder, SHAPE)
        results: dict[str, Any] = {
            encoder: measure(folder, encoder, ways, options.repeats) for encoder in options.encoders
        }
    clips = {"frames": FRAMES, "size": SIZE}
    results = {"clips": clips, "times_as_long_as_in_float32": slower_in_half_precision(), "encoders": results}
    print_result("step_options", options, [1], results, [])


if __name__ == "__main__":
    main()
