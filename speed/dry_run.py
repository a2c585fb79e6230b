"""How far the cost that a dry run tells is from that of the run, printed as JSON.

    python speed/dry_run.py [--smoke]

Interactions of 20,000 users among the items of MicroLens-100K; SASRec on item ids of two sizes and with the full
softmax, LightGCN and DeepFM. ``microlens train --dry-run`` is asked first; then two epochs are trained and validated,
and the second is compared.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import SMOKE, Line, Shape, long_tailed_sequences, print_result, write_release

USERS = Shape(users=20_000, items=19_738, interactions=143_881)
MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "sasrec, D = 64": {"model": {"name": "sasrec", "dim": 64}, "train": {"batch_size": 512}},
    "sasrec, D = 256": {"model": {"name": "sasrec", "dim": 256}, "train": {"batch_size": 512}},
    "sasrec, D = 64, full softmax": {
        "model": {"name": "sasrec", "dim": 64},
        "train": {"batch_size": 512, "loss": "full-softmax"},
    },
    "lightgcn, D = 64": {"model": {"name": "lightgcn", "dim": 64}, "train": {"batch_size": 4096}},
    "deepfm, D = 64": {"model": {"name": "deepfm", "dim": 64}, "train": {"batch_size": 4096}},
}


def compare(dataset: Path, folder: Path, sections: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Seconds of training and of validation an epoch, as told and as measured."""
    from microlens.config.run_config import RunConfig
    from microlens.evaluation.ranking import rank_targets
    from microlens.runs.assembly import build_experiment
    from microlens.runs.dry_run import dry_run
    from microlens.runs.train import trainer_of

    train = {"epochs": 2, "device": "cpu", "lr": 1e-3, **sections["train"]}
    config = RunConfig.model_validate(
        {"dataset": dataset, "output": folder, "encoder": {"name": "id"}, "model": sections["model"], "train": train}
    )
    (told,) = dry_run(config).values()
    folder.mkdir()
    run = build_experiment(config)
    trainer, _ = trainer_of(run)
    lines: list[dict[str, Any]] = []
    trainer.fit(lambda progress, loss: None, lines.append)
    begin = time.perf_counter()
    rank_targets(run.model, run.content, run.split, "valid", run.device)
    validation = time.perf_counter() - begin
    return {
        "training": {"told": round(told.training_seconds, 3), "measured": lines[-1]["seconds"]},
        "validation": {"told": round(told.validation_seconds, 3), "measured": round(validation, 3)},
    }


def error(figures: dict[str, Any]) -> float:
    """How far the seconds of an epoch are off, percent."""
    told, measured = (sum(figures[part][kind] for part in figures) for kind in ("told", "measured"))
    return round(100 * abs(told / measured - 1), 1)


def main() -> None:
    """Compare, and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data")
    options = parser.parse_args()
    import torch

    from microlens.data.prepare import prepare

    torch.set_num_threads(1)
    shape: Shape = SMOKE if options.smoke else USERS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_release(folder / "release", long_tailed_sequences(shape), "csv")
        prepare(folder / "release", folder / "dataset")
        figures = {
            model: compare(folder / "dataset", folder / f"run-{number}", sections)
            for number, (model, sections) in enumerate(MODELS.items())
        }
    lines = [
        Line(what=f"seconds of an epoch, {model}: error", measured=error(found), unit="%", bound="at most", reach=15)
        for model, found in figures.items()
    ]
    print_result("dry_run", options, [1], figures, lines)


if __name__ == "__main__":
    main()
