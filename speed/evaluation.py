"""What ranking the test targets of 100,000 users costs, ours beside the original algorithm, printed as JSON.

    python speed/evaluation.py [--smoke] [--repeats 3] [--sample 512]

Ours ranks all users; the original algorithm ranks a sample of them, and its cost is scaled to all. Each runs in a
process of its own, in turn. Of the sample both must find the same ranks, but for a neighbour's place where two scores
differ by less than float32 resolves; the program ends with an error otherwise.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from contestants import Turns, contestant, in_turns
from measure import MICROLENS_100K, SMOKE, Cost, Line, made_run, print_result, sasrec
from original_algorithm import OriginalAlgorithm, original_ranks

from microlens.data.split import Split
from microlens.evaluation.ranking import rank_targets
from microlens.runs.assembly import Experiment

DIM = 64
TIMES_FASTER = 40.0
# The original research code over 100,000 users and 19,738 items at d = 64, one thread (the lower of its CPU times).
ORIGINAL_WALL_SECONDS, ORIGINAL_CPU_SECONDS = 403.0, 192.0


def first_users(split: Split, count: int) -> Split:
    """The split of the first ``count`` users, with all items as candidates."""
    of_users = {name: getattr(split, name)[:count] for name in ("train_ends", "valid_ends", "users_kept")}
    return replace(split, offsets=split.offsets[: count + 1], **of_users)


def run_of(folder: str | Path, smoke: bool, threads: int) -> Experiment:
    """The run of every process, with fixed weights."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return made_run(Path(folder), SMOKE if smoke else MICROLENS_100K, **sasrec(DIM, 128))


def rank_ours(turns: Turns, folder: str, smoke: bool, threads: int) -> None:
    """Rank the targets of all users."""
    run = run_of(folder, smoke, threads)
    turns.take(lambda: rank_targets(run.model, run.content, run.split, "test", run.device))


def rank_theirs(turns: Turns, folder: str, smoke: bool, threads: int, sample: int) -> None:
    """Rank the targets of the first users by the original algorithm."""
    run = run_of(folder, smoke, threads)
    turns.take(lambda: sampled_ranks(run, sample))


def sampled_ranks(run: Experiment, sample: int) -> npt.NDArray[np.int64]:
    """The ranks of the first users' targets by the original algorithm."""
    users = np.arange(sample)
    original = OriginalAlgorithm(run.model, torch.from_numpy(run.split.train_counts))
    arrays = run.split.inputs("test", users), run.split.history("test", users), run.split.targets("test")[:sample]
    inputs, history, targets = (torch.from_numpy(values.astype(np.int64)) for values in arrays)
    return original_ranks(original, inputs, history, targets)


def measure(folder: Path, smoke: bool, sample: int, threads: int, repeats: int) -> dict[str, Any]:
    """All figures with one number of threads.

    Raises:
        AssertionError: the ranks differ.
    """
    run = run_of(folder, smoke, threads)
    ours = rank_targets(run.model, run.content, first_users(run.split, sample), "test", run.device)
    theirs = sampled_ranks(run, sample)
    assert np.abs(ours - theirs).max() <= 1, "the ranks differ"
    same = {"folder": folder, "smoke": smoke, "threads": threads}
    commands = {
        "microlens": contestant(rank_ours, **same),
        "original algorithm": contestant(rank_theirs, **same, sample=sample),
    }
    costs = {name: way.cost for name, way in in_turns(commands, repeats).items()}
    costs["original algorithm"] = costs["original algorithm"].over(sample / run.split.num_users)
    return {
        "threads": threads,
        "users": run.split.num_users,
        "items": run.split.num_items,
        "same_ranks": {"users": sample, "share_equal": round(float((ours == theirs).mean()), 4)},
        "all_users": costs,
        "original_algorithm_scaled_from_users": sample,
        "times_faster": times_faster(costs),
    }


def times_faster(costs: dict[str, Cost]) -> dict[str, float]:
    """The original algorithm's cost over ours."""
    ours, theirs = costs["microlens"], costs["original algorithm"]
    return {
        "cpu": round(theirs.cpu_seconds / ours.cpu_seconds, 1),
        "wall": round(theirs.wall_seconds / ours.wall_seconds, 1),
    }


def lines_of(result: dict[str, Any]) -> list[Line]:
    """The lines with one thread: against what the original code was measured at, and beside the peer of this run."""
    ours: Cost = result["all_users"]["microlens"]
    return [
        Line(
            what=f"evaluation of 100,000 users d={DIM}, wall time, the original code's {ORIGINAL_WALL_SECONDS:.0f} s "
            "over ours",
            measured=ORIGINAL_WALL_SECONDS / ours.wall_seconds, unit="times", bound="at least", reach=TIMES_FASTER,
        ),
        Line(
            what=f"evaluation of 100,000 users d={DIM}, CPU time, the original code's {ORIGINAL_CPU_SECONDS:.0f} s "
            "over ours",
            measured=ORIGINAL_CPU_SECONDS / ours.cpu_seconds, unit="times", bound="at least", reach=TIMES_FASTER,
        ),
        Line(
            what=f"evaluation of 100,000 users d={DIM}, CPU time, the original algorithm's over ours in this run",
            measured=result["times_faster"]["cpu"], unit="times", bound="at least", reach=TIMES_FASTER,
        ),
    ]  # fmt: skip


def main() -> None:
    """Measure with one and with two threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that the program works")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sample", type=int, default=512, help="users that the original algorithm ranks")
    options = parser.parse_args()
    repeats, sample, threads = (1, 64, [1]) if options.smoke else (options.repeats, options.sample, [1, 2])
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(Path(folder), options.smoke, sample, count, repeats) for count in threads]
    print_result("evaluation", options, threads, {"dim": DIM, "cases": results}, lines_of(results[0]))


if __name__ == "__main__":
    main()
