"""What a training step of SASRec on item ids costs, ours beside the original algorithm, printed as JSON.

    python speed/training.py [--smoke] [--repeats 5]

Both train on the same made interactions of MicroLens-100K's shape, in batches of 128 users, with dropout. Ours is the
whole step of the trainer, making the batch included. Before anything is timed, both compute the loss of one batch with
the same weights and without dropout; the program ends with an error where they differ by more than 1e-4 of the value.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import MICROLENS_100K, SMOKE, Cost, Line, Shape, made_run, print_result, sasrec, side_by_side
from original_algorithm import OriginalAlgorithm, OriginalTraining, collate

from microlens.data.split import Split
from microlens.runs.assembly import Experiment
from microlens.training.trainer import Trainer

BATCH_SIZE = 128
TOLERANCE = 1e-4
# What the original research code was measured at: user sequences a second with one thread, batches of 128 (at d = 64
# the best of several runs).
ORIGINAL_SEQUENCES_PER_SECOND = {64: 2100.0, 512: 95.0}
TIMES_FASTER = {64: 3.0, 512: 2.0}


def trainer_of(run: Experiment, folder: Path) -> Trainer:
    """The trainer of a run, with the order of users fixed."""
    return Trainer(
        run.model, run.split, run.content, run.config.train,
        seed=0, folder=folder, device=run.device, identity=run.identity,
    )  # fmt: skip


def user_batches(split: Split, seed: int) -> Iterator[list[list[int]]]:
    """The train items of batches of users in a random order, without end; a list a user."""
    while True:
        order = np.random.default_rng(seed).permutation(split.num_users)
        for start in range(0, len(order), BATCH_SIZE):
            padded = split.train_sequences(order[start : start + BATCH_SIZE])
            yield [[item for item in row if item] for row in padded.tolist()]


def same_loss(folder: Path, shape: Shape, dim: int) -> dict[str, float]:
    """The loss of one batch by both, with the same weights and no dropout.

    Raises:
        AssertionError: they differ by more than the tolerance.
    """
    run = made_run(folder, shape, **sasrec(dim, BATCH_SIZE, dropout=0.0))
    trainer = trainer_of(run, folder)
    original = OriginalAlgorithm(run.model, torch.from_numpy(run.split.train_counts))
    batch = next(trainer.batches())
    sequences = [[item for item in row if item] for row in batch.sequence.tolist()]
    with torch.no_grad():
        ours = trainer.step_module(batch).item()
        theirs = original(*collate(sequences, batch.sequence.shape[1]))[0].item()
    assert abs(ours - theirs) <= TOLERANCE * abs(theirs), f"the losses differ: {ours} and {theirs}"
    return {"microlens": ours, "original algorithm": theirs}


def step_costs(folder: Path, shape: Shape, dim: int, steps: int, repeats: int) -> dict[str, Cost]:
    """The cost of a step by both, each repeat going on with new batches."""
    run = made_run(folder, shape, **sasrec(dim, BATCH_SIZE))
    trainer = trainer_of(run, folder)
    settings, slots = run.config.train, run.split.history_length + 1
    model = OriginalAlgorithm(run.model, torch.from_numpy(run.split.train_counts))
    original = OriginalTraining(model, settings.lr, settings.weight_decay)
    our_batches = endless(trainer)
    their_batches = user_batches(run.split, seed=0)

    def train_ours() -> None:
        for _ in range(steps):
            float(trainer.step(next(our_batches)))

    def train_theirs() -> None:
        for _ in range(steps):
            original.step(*collate(next(their_batches), slots))

    ways: dict[str, Callable[[], None]] = {"microlens": train_ours, "original algorithm": train_theirs}
    if repeats > 1:
        side_by_side(ways, repeats=1)  # untimed: the first run compiles modules and fills caches
    return {name: cost.over(steps) for name, cost in side_by_side(ways, repeats).items()}


def endless(trainer: Trainer) -> Iterator[Any]:
    """The trainer's batches, epoch after epoch, all of the full size."""
    while True:
        yield from (batch for batch in trainer.batches() if len(batch.users) == BATCH_SIZE)


def measure(folder: Path, shape: Shape, dim: int, threads: int, steps: int, repeats: int) -> dict[str, Any]:
    """All figures of one vector size and number of threads."""
    torch.set_num_threads(threads)
    costs = step_costs(folder, shape, dim, steps, repeats)
    ours, theirs = costs["microlens"], costs["original algorithm"]
    return {
        "dim": dim,
        "threads": threads,
        "loss": same_loss(folder, shape, dim),
        "a_step": costs,
        "sequences_per_cpu_second": {name: round(BATCH_SIZE / cost.cpu_seconds, 1) for name, cost in costs.items()},
        "sequences_per_second": {name: round(BATCH_SIZE / cost.wall_seconds, 1) for name, cost in costs.items()},
        "times_faster": {
            "cpu": round(theirs.cpu_seconds / ours.cpu_seconds, 2),
            "wall": round(theirs.wall_seconds / ours.wall_seconds, 2),
        },
    }


def lines_of(result: dict[str, Any]) -> list[Line]:
    """The lines of one thread: beside the peer of this run, and against what the original code was measured at."""
    dim = result["dim"]
    times = TIMES_FASTER[dim]
    return [
        Line(
            what=f"training d={dim}, CPU time of a step, the original algorithm's over ours in this run",
            measured=result["times_faster"]["cpu"], unit="times", bound="at least", reach=times,
        ),
        Line(
            what=f"training d={dim}, user sequences a CPU second",
            measured=result["sequences_per_cpu_second"]["microlens"], unit="1/s", bound="at least",
            reach=times * ORIGINAL_SEQUENCES_PER_SECOND[dim],
        ),
    ]  # fmt: skip


def main() -> None:
    """Measure every vector size with one and with two threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that the program works")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    shape, repeats = (SMOKE, 1) if options.smoke else (MICROLENS_100K, options.repeats)
    steps = {64: 1, 512: 1} if options.smoke else {64: 25, 512: 3}
    threads = [1] if options.smoke else [1, 2]
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(Path(folder), shape, dim, count, steps[dim], repeats) for dim in steps for count in threads]
    lines = [line for result in results if result["threads"] == 1 for line in lines_of(result)]
    print_result("training", options, threads, {"batch_size": BATCH_SIZE, "cases": results}, lines)


if __name__ == "__main__":
    main()
