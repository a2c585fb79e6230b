"""What a training step of SASRec on item ids costs, ours beside the original algorithm, printed as JSON.

    python speed/training.py [--smoke] [--repeats 5]

Both train on the same made interactions of MicroLens-100K's shape, in batches of 128 users, with dropout, each in a
process of its own, in turn. Ours is the whole step of the trainer, making the batch included. Before anything is timed,
both compute the loss of one batch with the same weights and without dropout; the program ends with an error where they
differ by more than 1e-4 of the value.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contestants import Turns, contestant, in_turns
from measure import MICROLENS_100K, SMOKE, Line, Shape, made_run, print_result, sasrec
from original_algorithm import OriginalAlgorithm, OriginalTraining, collate

from microlens.data.split import Split
from microlens.runs.assembly import Experiment
from microlens.training.trainer import Trainer

BATCH_SIZE = 128
STEPS = {64: 25, 512: 3}  # a turn, by vector size
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


def train_ours(turns: Turns, folder: str, smoke: bool, dim: int, threads: int, steps: int) -> None:
    """Steps of our trainer, every turn going on with new batches."""
    run = run_of(folder, smoke, dim, threads)
    trainer = trainer_of(run, Path(folder))
    batches = endless(trainer)

    def train() -> None:
        for _ in range(steps):
            float(trainer.step(next(batches)))

    turns.take(train)


def train_theirs(turns: Turns, folder: str, smoke: bool, dim: int, threads: int, steps: int) -> None:
    """Steps of the original algorithm from the same weights, every turn going on with new batches."""
    run = run_of(folder, smoke, dim, threads)
    settings, slots = run.config.train, run.split.history_length + 1
    model = OriginalAlgorithm(run.model, torch.from_numpy(run.split.train_counts))
    original = OriginalTraining(model, settings.lr, settings.weight_decay)
    batches = user_batches(run.split, seed=0)

    def train() -> None:
        for _ in range(steps):
            original.step(*collate(next(batches), slots))

    turns.take(train)


def run_of(folder: str, smoke: bool, dim: int, threads: int) -> Experiment:
    """The run of a contestant, with fixed weights."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return made_run(Path(folder), SMOKE if smoke else MICROLENS_100K, **sasrec(dim, BATCH_SIZE))


WAYS = {"microlens": train_ours, "original algorithm": train_theirs}


def endless(trainer: Trainer) -> Iterator[Any]:
    """The trainer's batches, epoch after epoch, all of the full size."""
    while True:
        yield from (batch for batch in trainer.batches() if len(batch.users) == BATCH_SIZE)


def measure(folder: Path, smoke: bool, dim: int, threads: int, repeats: int) -> dict[str, Any]:
    """All figures of one vector size and number of threads."""
    torch.set_num_threads(threads)
    loss = same_loss(folder, SMOKE if smoke else MICROLENS_100K, dim)
    steps = 1 if smoke else STEPS[dim]
    of_case = {"folder": folder, "smoke": smoke, "dim": dim, "threads": threads, "steps": steps}
    turned = in_turns(
        {name: contestant(way, **of_case) for name, way in WAYS.items()}, repeats, warm_up=0 if smoke else 1
    )
    costs = {name: way.cost.over(steps) for name, way in turned.items()}
    ours, theirs = costs["microlens"], costs["original algorithm"]
    return {
        "dim": dim,
        "threads": threads,
        "loss": loss,
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
    repeats, threads = (1, [1]) if options.smoke else (options.repeats, [1, 2])
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        cases = ((dim, count) for dim in STEPS for count in threads)
        results = [measure(Path(folder), options.smoke, dim, count, repeats) for dim, count in cases]
    lines = [line for result in results if result["threads"] == 1 for line in lines_of(result)]
    print_result("training", options, threads, {"batch_size": BATCH_SIZE, "cases": results}, lines)


if __name__ == "__main__":
    main()
