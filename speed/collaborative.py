"""What the other recommenders cost at the shape of MicroLens-100K, printed as JSON.

    python speed/collaborative.py [--smoke] [--steps 20]

Training steps of DSSM (batches of 1,024) and LightGCN (of 128) on item ids at d = 512, ranking the whole catalogue with
NFM and DeepFM at d = 64, and SASRec with the softmax over the whole catalogue at d = 64 in batches of 128, each in a
process of its own. What the research code and RecTools were measured at stands in this file as constants: like machine,
two cores.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import MICROLENS_100K, SMOKE, Line, Shape, made_run, print_result
from memory import MEBIBYTE, peak_bytes

THREADS = 2
USERS_RANKED = 512
# Seconds an epoch of DSSM, and seconds a step of LightGCN, of the original research code (the least of those measured).
ORIGINAL_DSSM_EPOCH, ORIGINAL_LIGHTGCN_STEP = 330.0, 12.0
RECTOOLS_SEQUENCES_PER_SECOND = 573.0  # SASRec of RecTools 0.19 with full softmax over 19,099 items, d = 64
TRAINED: dict[str, dict[str, Any]] = {
    "dssm": {"model": {"name": "dssm", "dim": 512}, "train": {"batch_size": 1024}},
    "lightgcn": {"model": {"name": "lightgcn", "dim": 512}, "train": {"batch_size": 128, "weight_decay": 0.0}},
    "sasrec-full-softmax": {
        "model": {"name": "sasrec", "dim": 64},
        "train": {"batch_size": 128, "loss": "full-softmax"},
    },
}
RANKED: dict[str, dict[str, Any]] = {
    name: {"model": {"name": name, "dim": 64}, "train": {}} for name in ("nfm", "deepfm")
}


def train_steps(folder: Path, shape: Shape, way: str, steps: int) -> dict[str, float]:
    """Seconds a step, the median of all but the first, steps an epoch, and peak memory."""
    import torch
    from training import trainer_of

    torch.set_num_threads(THREADS)
    trainer = trainer_of(made_run(folder, shape, **TRAINED[way]), folder)
    seconds = []
    for number, batch in enumerate(trainer.batches()):
        if number > steps:
            break
        start = time.perf_counter()
        float(trainer.step(batch))
        seconds.append(time.perf_counter() - start)
    middle = sorted(seconds[1:] or seconds)[len(seconds[1:]) // 2]
    return {
        "seconds_per_step": round(middle, 8),
        "steps_per_epoch": trainer.steps_per_epoch,
        "seconds_per_epoch": round(middle * trainer.steps_per_epoch, 6),
        "rows_per_second": round(trainer.settings.batch_size / middle, 1),
        "peak_bytes": peak_bytes(),
    }


def rank_users(folder: Path, shape: Shape, way: str) -> dict[str, float]:
    """Seconds a user of ranking the whole catalogue, and peak memory."""
    import numpy as np
    import torch

    from microlens.evaluation.ranking import ROWS_AT_ONCE, encode_catalogue, user_states

    torch.set_num_threads(THREADS)
    run = made_run(folder, shape, **RANKED[way])
    model, split = run.model.eval(), run.split
    catalogue = encode_catalogue(model, run.content, split.num_items, run.device)
    users = np.arange(min(USERS_RANKED, split.num_users))
    history = torch.from_numpy(split.inputs("test", users).astype(np.int64))
    start = time.perf_counter()
    with torch.inference_mode():
        states = user_states(model, catalogue, torch.from_numpy(users), history)
        for begin in range(0, len(users), ROWS_AT_ONCE):
            model.score(states[begin : begin + ROWS_AT_ONCE], catalogue)
    seconds = time.perf_counter() - start
    return {"seconds_per_user": round(seconds / len(users), 6), "peak_bytes": peak_bytes()}


def in_a_process(way: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Run one way in a fresh interpreter."""
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder), "--steps", str(options.steps)]
    answer = subprocess.run(
        [*command, *(["--smoke"] if options.smoke else [])], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    figures: dict[str, float] = json.loads(answer)
    return figures


def lines_of(results: dict[str, dict[str, float]]) -> list[Line]:
    """The lines to reach."""
    dssm, lightgcn, sasrec = (results[way] for way in TRAINED)
    faster = ORIGINAL_LIGHTGCN_STEP / lightgcn["seconds_per_step"]
    return [
        Line(
            what="DSSM, an epoch, times as fast as the original code", unit="x", bound="at least", reach=5.0,
            measured=ORIGINAL_DSSM_EPOCH / dssm["seconds_per_epoch"],
        ),
        Line(
            what="LightGCN, times as fast as the original code", unit="x", bound="at least", reach=50.0,
            measured=faster,
        ),
        Line(
            what="LightGCN, peak memory", measured=lightgcn["peak_bytes"] / MEBIBYTE, unit="MiB", bound="at most",
            reach=2.5e9 / MEBIBYTE,
        ),
        *(
            Line(
                what=f"{way}, ranking {MICROLENS_100K.items:,} items, peak memory", unit="MiB", bound="at most",
                measured=results[way]["peak_bytes"] / MEBIBYTE, reach=2e9 / MEBIBYTE,
            )
            for way in RANKED
        ),
        Line(
            what="SASRec, full softmax, sequences a second, times RecTools'", unit="x", bound="at least", reach=3.0,
            measured=sasrec["rows_per_second"] / RECTOOLS_SEQUENCES_PER_SECOND,
        ),
    ]  # fmt: skip


def main() -> None:
    """Measure all ways, each in its own process; or, with ``--way``, one of them in this one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--way", choices=["prepare", *TRAINED, *RANKED])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    shape = SMOKE if options.smoke else MICROLENS_100K
    if options.way == "prepare":
        made_run(options.folder, shape, **RANKED["nfm"])
        return
    if options.way in TRAINED:
        json.dump(train_steps(options.folder, shape, options.way, options.steps), sys.stdout)
        return
    if options.way in RANKED:
        json.dump(rank_users(options.folder, shape, options.way), sys.stdout)
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, __file__, "--way", "prepare", "--folder", folder, *(["--smoke"] if options.smoke else [])],
            check=True,
        )
        results = {way: in_a_process(way, Path(folder), options) for way in (*TRAINED, *RANKED)}
    print_result("collaborative", options, [THREADS], results, lines_of(results))


if __name__ == "__main__":
    main()
