"""What splitting, training and ranking cost with many users and items, printed as JSON.

    python speed/many_users.py [--smoke] [--users 1000000] [--items 91402] [--dim 64] [--loss in-batch-softmax]

Interactions are made in the shape of MicroLens and prepared. A process of its own then opens the dataset, splits it,
takes steps of SASRec on item ids in batches of 128 users, and ranks the test targets of some users among all items.
Before, each protocol's split is opened twice, in processes of their own: the first one computes it, and a dataset of a
million interactions or more stores it.
Peak memory after each stage is what the operating system reports of the process; python_blocks counts the memory
blocks of Python's allocator, which do not grow with users and items where nothing is held per user in Python.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import cpu_seconds, peak_bytes, print_result, sasrec

BATCH_SIZE, STEPS, RANKED = 128, 20, 8192
SMOKE = {"users": 3000, "items": 300}


def make_dataset(folder: Path, users: int, items: int) -> dict[str, float]:
    """Make and prepare interactions; seconds and peak memory of preparing, with the imports."""
    from microlens.data.prepare import prepare
    from microlens.release.synthetic_interactions import write_interactions_only

    write_interactions_only(folder / "release", users=users, items=items)
    begin, begin_cpu = time.perf_counter(), cpu_seconds()
    prepare(folder / "release", folder / "dataset")
    return {
        "seconds": round(time.perf_counter() - begin, 3),
        "cpu_seconds": round(cpu_seconds() - begin_cpu, 3),
        "peak_gigabytes": round(peak_bytes() / 1e9, 3),
    }


def open_split(folder: Path, protocol: str) -> dict[str, float]:
    """Seconds and peak memory of opening the dataset and its split, without the imports."""
    from microlens.data.dataset import Dataset
    from microlens.data.protocol import NAMED_PROTOCOLS, Protocol

    begin, begin_cpu = time.perf_counter(), cpu_seconds()
    Dataset(folder / "dataset").split(Protocol(**NAMED_PROTOCOLS[protocol]))
    return {
        "seconds": round(time.perf_counter() - begin, 3),
        "cpu_seconds": round(cpu_seconds() - begin_cpu, 3),
        "peak_gigabytes": round(peak_bytes() / 1e9, 3),
    }


def train_and_rank(folder: Path, dim: int, loss: str) -> dict[str, Any]:
    """Seconds, peak memory and blocks of Python's memory of each stage."""
    begin, begin_cpu = time.perf_counter(), cpu_seconds()
    import torch
    from training import trainer_of

    from microlens.config.run_config import RunConfig
    from microlens.evaluation.ranking import encode_catalogue, known_before, ranks_of
    from microlens.runs.assembly import build_experiment

    torch.set_num_threads(1)
    stages: dict[str, Any] = {}

    def end(stage: str, times: int = 1) -> None:
        nonlocal begin, begin_cpu
        seconds = round((time.perf_counter() - begin) / times, 7)
        of_cpu = round((cpu_seconds() - begin_cpu) / times, 7)
        memory = {"peak_gigabytes": round(peak_bytes() / 1e9, 3), "python_blocks": sys.getallocatedblocks()}
        stages[stage] = {"seconds": seconds, "cpu_seconds": of_cpu, **memory}
        begin, begin_cpu = time.perf_counter(), cpu_seconds()

    end("imports")
    sections = sasrec(dim, BATCH_SIZE)
    sections["train"] |= {"loss": loss, "device": "cpu"}
    configuration = {"dataset": folder / "dataset", "output": folder / "run", "encoder": {"name": "id"}, **sections}
    run = build_experiment(RunConfig.model_validate(configuration))
    end("dataset, split and model")
    trainer = trainer_of(run, folder)
    batches = trainer.batches()
    trainer.step(next(batches))
    end("trainer and first step")
    for _ in range(STEPS):
        trainer.step(next(batches))
    end("step", STEPS)
    run.model.eval()
    catalogue = encode_catalogue(run.model, run.content, run.split.num_items, run.device)
    end("catalogue")
    chosen = np.random.default_rng(0).permutation(len(run.split.targets("test")))[:RANKED]
    users, targets = run.split.target_users("test")[chosen], torch.from_numpy(run.split.targets("test")[chosen]).long()
    ranks_of(run.model, catalogue, users, targets, lambda some: known_before(run.split, "test", some))
    end("user ranked", len(chosen))
    counts = {"users": run.split.num_users, "items": run.split.num_items, "interactions": run.split.num_events}
    return {**counts, "stages": stages}


def main() -> None:
    """Make the dataset, and measure a process that trains and ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that the program works")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=91_402)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--loss", default="in-batch-softmax")
    parser.add_argument("--folder", type=Path, help="where to write")
    parser.add_argument("--way", choices=("make", "open", "train"), help=argparse.SUPPRESS)
    parser.add_argument("--protocol", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.smoke:
        options.users, options.items = SMOKE["users"], SMOKE["items"]
    if options.way == "make":
        print(json.dumps(make_dataset(options.folder, options.users, options.items)))
        return
    if options.way == "open":
        print(json.dumps(open_split(options.folder, options.protocol)))
        return
    if options.way == "train":
        print(json.dumps(train_and_rank(options.folder, options.dim, options.loss)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        size = ["--users", str(options.users), "--items", str(options.items), "--folder", name]
        command = [sys.executable, __file__, *size, "--dim", str(options.dim), "--loss", options.loss]

        def way(name: str, *more: str) -> dict[str, Any]:
            result = subprocess.run([*command, "--way", name, *more], check=True, stdout=subprocess.PIPE, text=True)
            measured: dict[str, Any] = json.loads(result.stdout)
            return measured

        made = way("make")
        splits = {
            protocol: {time: way("open", "--protocol", protocol) for time in ("first", "second")}
            for protocol in ("paper", "random")
        }
        trained = way("train")
    options.folder = None
    trained["stages"] = {"prepare": made, **trained["stages"]}
    trained["opening a split"] = splits
    print_result("many_users", options, [1], trained, [])


if __name__ == "__main__":
    main()
