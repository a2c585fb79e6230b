"""The most memory that training takes, beyond what the interpreter's imports take, printed as JSON.

    python speed/memory.py [--smoke]

A process of its own imports everything, builds the run, trains one epoch at d = 64 in batches of 128, and ranks the
validation targets; another takes a few steps of the original algorithm. The process that starts them stays small,
because a new process inherits the peak of the one that started it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import MICROLENS_100K, SMOKE, Line, Shape, made_run, peak_bytes, print_result, sasrec

DIM, BATCH_SIZE = 64, 128
LIMIT_BYTES = 1_000_000_000
ORIGINAL_STEPS = 5


def train_epoch(folder: Path, shape: Shape) -> dict[str, int]:
    """Peak memory after the imports and after an epoch of ours with its validation."""
    import torch
    from training import trainer_of

    from microlens.evaluation.ranking import rank_targets

    torch.set_num_threads(1)
    imported = peak_bytes()
    run = made_run(folder, shape, **sasrec(DIM, BATCH_SIZE))
    trainer = trainer_of(run, folder)
    trainer._train_epoch(lambda progress, loss: None)
    rank_targets(run.model, run.content, run.split, "valid", run.device)
    return {"after_imports": imported, "after_an_epoch": peak_bytes()}


def train_original(folder: Path, shape: Shape) -> dict[str, int]:
    """Peak memory after the imports and after some steps of the original algorithm."""
    import torch
    from original_algorithm import OriginalAlgorithm, OriginalTraining, collate
    from training import user_batches

    torch.set_num_threads(1)
    imported = peak_bytes()
    run = made_run(folder, shape, **sasrec(DIM, BATCH_SIZE))
    model = OriginalAlgorithm(run.model, torch.from_numpy(run.split.train_counts))
    training = OriginalTraining(model, run.config.train.lr, run.config.train.weight_decay)
    batches = user_batches(run.split, seed=0)
    for _ in range(ORIGINAL_STEPS):
        training.step(*collate(next(batches), run.split.history_length + 1))
    return {"after_imports": imported, "after_steps": peak_bytes()}


def prepare_data(folder: Path, shape: Shape) -> dict[str, int]:
    """Make the dataset, so that doing so counts for none of the others."""
    made_run(folder, shape, **sasrec(DIM, BATCH_SIZE))
    return {"after_preparing": peak_bytes()}


MEASURED = {"microlens": train_epoch, "original-algorithm": train_original}
WAYS = {"prepare": prepare_data, **MEASURED}


def in_a_process(way: str, folder: Path, smoke: bool) -> dict[str, Any]:
    """Run one way in a fresh interpreter."""
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder), *(["--smoke"] if smoke else [])]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    peaks: dict[str, Any] = json.loads(answer)
    return peaks


def main() -> None:
    """Measure both ways, or be the process of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that the program works")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = SMOKE if options.smoke else MICROLENS_100K
    if options.way:
        print(json.dumps(WAYS[options.way](options.folder, shape)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_a_process("prepare", folder, options.smoke)
        own = peak_bytes()
        peaks = {way: in_a_process(way, folder, options.smoke) for way in MEASURED}
    assert all(own < peak["after_imports"] for peak in peaks.values()), "this process hides what the imports take"
    beyond = {way: max(peak.values()) - peak["after_imports"] for way, peak in peaks.items()}
    line = Line(
        what=f"peak memory of training d={DIM} beyond the imports", measured=beyond["microlens"] / 1e6, unit="MB",
        bound="at most", reach=LIMIT_BYTES / 1e6,
    )  # fmt: skip
    print_result("memory", options, [1], {"peak_bytes": peaks, "beyond_imports_bytes": beyond}, [line])


if __name__ == "__main__":
    main()
