"""How accuracy grows with the size of vectors, the history, the users and the encoder of MicroLens-50K, as JSON.

    python results/scaling/study.py [--processes 2] [--device cpu]

In a folder with ``datasets/microlens-50k`` and its MiniLM features, trains SASRec with in-batch softmax on ids, on
words of the titles, and on ids with frozen features or words. One quantity changes at a time: D, the number of items
that the model reads, or the share of the users whose interactions it is trained on, with early stopping on those users.
What is reported is HR@10 on the validation targets of all users, one seed. Rows are added to ``microlens-50k.json`` as
they end, so that a study that was stopped goes on. No test target is ranked.
"""

import argparse
import json
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).with_name("microlens-50k.json")
DATASET = "datasets/microlens-50k"
FEATURES = {"name": "features", "path": f"{DATASET}/features/minilm-21b7d12fccb7.npy"}
ENCODERS: dict[str, dict[str, Any]] = {
    "ids": {"name": "id"},
    "titles, frozen": FEATURES,
    "words": {"name": "words"},
    "ids and titles, frozen": {"name": "sum", "towers": [{"name": "id"}, FEATURES]},
    "ids and words": {"name": "sum", "towers": [{"name": "id"}, {"name": "words"}]},
}
BASE = {"dim": 64, "history": 10, "share": 1.0}
GROWN: dict[str, tuple[Any, ...]] = {"dim": (16, 32, 128, 256), "history": (1, 2, 5), "share": (0.1, 0.25, 0.5)}
GROWN_OF = ("ids", "ids and titles, frozen")
SEED = 42


def rows() -> list[dict[str, Any]]:
    """What is to be trained: every encoder, and for two of them one quantity at a time."""
    base = [{"encoder": name, **BASE} for name in ENCODERS]
    return base + [
        {"encoder": name, **BASE, quantity: value}
        for name in GROWN_OF
        for quantity, values in GROWN.items()
        for value in values
    ]


def train(row: dict[str, Any], device: str) -> dict[str, Any]:
    """Train a row; its accuracy on the validation targets of all users, its curve and its cost."""
    import torch

    from microlens.config.run_config import RunConfig
    from microlens.evaluation.metrics import all_metrics
    from microlens.evaluation.ranking import rank_targets
    from microlens.runs.assembly import build_experiment, load_best
    from microlens.runs.train import trainer_of

    torch.set_num_threads(1)
    name = "-".join(str(value).replace(" ", "").replace(",", "") for value in row.values())
    configuration = {
        "dataset": DATASET,
        "output": f"runs/scaling/{name}",
        "protocol": {"max_history": row["history"]},
        "model": {"name": "sasrec", "dim": row["dim"], "dropout": 0.3},
        "encoder": ENCODERS[row["encoder"]],
        "train": {"epochs": 30, "batch_size": 512, "lr": 2e-3, "weight_decay": 0.1, "patience": 3, "device": device},
        "seed": SEED,
    }
    run = build_experiment(RunConfig.model_validate(configuration))
    run.config.output.mkdir(parents=True, exist_ok=True)
    trainer, _ = trainer_of(replace(run, split=share_of(run.split, row["share"])))
    trainer.fit(lambda progress, loss: None, lambda line: None)
    load_best(run)
    ranks = rank_targets(run.model, run.content, run.split, "valid", run.device)
    metrics = all_metrics(ranks, run.split.target_users("valid"))
    shutil.rmtree(run.config.output)
    return {
        **row,
        "valid": {name: round(value, 5) for name, value in metrics.items()},
        "best_epoch": trainer.progress.best_epoch,
        "seconds": round(trainer.progress.train_seconds, 1),
        "parameters": sum(parameter.numel() for parameter in run.model.parameters() if parameter.requires_grad),
        "valid HR@10 by epoch": [round(line["valid"]["HR@10"], 5) for line in trainer.progress.log],
    }


def share_of(split: Any, share: float) -> Any:
    """The split with a random share of its users, and all its items."""
    if share == 1:
        return split
    users = np.sort(np.random.default_rng(SEED).permutation(split.num_users)[: round(share * split.num_users)])
    lengths = np.diff(split.offsets)
    kept = np.zeros(split.num_users, bool)
    kept[users] = True
    offsets = np.concatenate([[0], lengths[users].cumsum()])
    return replace(
        split,
        sequences=split.sequences[np.repeat(kept, lengths)],
        offsets=offsets,
        train_ends=offsets[:-1] + (split.train_ends - split.offsets[:-1])[users],
        valid_ends=offsets[:-1] + (split.valid_ends - split.offsets[:-1])[users],
        users_kept=split.users_kept[users],
    )


def main() -> None:
    """Train the rows that the results lack."""
    from microlens import Dataset, environment

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    found = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    done = [{name: row[name] for name in ("encoder", *BASE)} for row in found]
    facts = {
        "dataset": "microlens-50k", "data_hash": Dataset(Path(DATASET)).checksum, "commit": environment.commit(),
        "seed": SEED, "device": options.device,
    }  # fmt: skip
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(train, row, options.device) for row in rows() if row not in done]
        for one in as_completed(waiting):
            found.append(one.result())
            RESULTS.with_suffix(".new").write_text(json.dumps({**facts, "rows": found}, indent=1) + "\n")
            RESULTS.with_suffix(".new").replace(RESULTS)
            print({name: value for name, value in found[-1].items() if name != "valid HR@10 by epoch"}, flush=True)


if __name__ == "__main__":
    main()
