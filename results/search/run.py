"""The same search for every trained row of a table, as JSON that says what was tried.

    python results/search/run.py [--rows sasrec-id,nfm] [--trials 8] [--processes 2] [--device cpu]

In a folder with ``datasets/microlens-50k``, runs the ``[tune]`` table of each configuration in
``configs/microlens-50k/`` for the same number of trials of a short budget, by ``microlens.Search``. Trials that
``microlens-50k.json`` has are taken over, whatever machine made them, and every trial is added to it as it ends, so
that a search that was stopped goes on anywhere. No test target is ranked.
"""

import argparse
import json
import multiprocessing
import os
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("microlens-50k.json")
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "microlens-50k"
SEQUENCES = {"epochs": 15, "patience": 3, "batch_size": 1024}
ATTENTION = {"epochs": 15, "patience": 3, "batch_size": 256}  # as in the configurations, whose rates are for it
PAIRS = {"epochs": 15, "patience": 3, "batch_size": 4096}
EVENTS = {"epochs": 6, "patience": 2, "batch_size": 512}
BUDGETS = {
    "gru4rec-id": SEQUENCES, "youtube-id": SEQUENCES, "youtube-id-v": SEQUENCES, "nextitnet-id": SEQUENCES,
    "sasrec-id": ATTENTION, "sasrec-id-v": ATTENTION,
    "mmgcn-id": PAIRS, "mmgcn-id-v": PAIRS, "grcn-id": PAIRS, "grcn-id-v": PAIRS, "lightgcn": PAIRS, "dssm": PAIRS,
    "dssm-id-v": PAIRS,
    "deepfm": EVENTS, "nfm": EVENTS,
    "gsasrec-id": ATTENTION, "esasrec-id": ATTENTION, "hstu-id": ATTENTION, "fmlp-id": ATTENTION,
    "freedom": PAIRS, "lattice": PAIRS, "bm3": PAIRS, "mgcn": PAIRS,
}  # fmt: skip
METRIC = "valid HR@10 by epoch"


@dataclass(frozen=True, kw_only=True)
class Task:
    """Search of a row up to a number of trials, of which some are known."""

    row: str
    trials: int
    known: list[dict[str, Any]]
    device: str


def search(task: Task) -> list[dict[str, Any]]:
    """Search, and return all trials of the row."""
    import torch

    from microlens import Search
    from microlens.runs.tune import EndedTrial

    torch.set_num_threads(1)
    overrides = [f"train.{name}={value}" for name, value in BUDGETS[task.row].items()]
    overrides.append(f'train.device="{task.device}"')
    found = Search(CONFIGS / f"{task.row}.toml", overrides, Path("runs/search") / task.row)
    if not found.ended() and task.known:
        found.add([_trial(trial, EndedTrial) for trial in task.known])
    found.run(task.trials)
    device = torch.cuda.get_device_name(0) if task.device == "cuda" else "CPU, one thread, beside other work"
    return [
        task.known[number]
        if number < len(task.known)
        else {
            "trial": number,
            "state": "pruned" if trial.pruned else "complete",
            "options": trial.options,
            "epochs": len(trial.metrics),
            "seconds": trial.seconds,
            "device": device,
            METRIC: [round(value, 5) for value in trial.metrics],
        }
        for number, trial in enumerate(found.ended())
    ]


def _trial(trial: dict[str, Any], kind: Any) -> Any:
    return kind(
        options=trial["options"],
        metrics=trial[METRIC],
        pruned=trial["state"] == "pruned",
        seconds=trial["seconds"],
    )


def main() -> None:
    """Search the rows, a trial at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(BUDGETS))
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    results = json.loads(RESULTS.read_text())
    waiting = [row for row in options.rows.split(",") if len(results["rows"].get(row, [])) < options.trials]
    running: dict[Any, str] = {}
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:

        def start(row: str) -> None:
            known = results["rows"].get(row, [])
            task = Task(row=row, trials=len(known) + 1, known=known, device=options.device)
            running[pool.submit(search, task)] = row

        while waiting or running:
            while waiting and len(running) < options.processes:
                start(waiting.pop(0))
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                row = running.pop(done)
                results["rows"][row] = done.result()
                write(results)
                last = results["rows"][row][-1]
                print(f"{row} {last['trial']}: {last['state']}, {100 * max(last[METRIC]):.2f} %", flush=True)
                if len(results["rows"][row]) < options.trials:
                    start(row)


def write(results: dict[str, Any]) -> None:
    """Replace the stored results."""
    new = RESULTS.with_suffix(".new")
    new.write_text(json.dumps(results, indent=1) + "\n")
    new.replace(RESULTS)


if __name__ == "__main__":
    main()
