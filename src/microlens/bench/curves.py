"""Training curves in a table's JSON, and which rows were cut off."""

from typing import Any

from microlens.bench.rows import Job
from microlens.building import listed
from microlens.evaluation.report import Report, read_epochs

Row = dict[str, Any]
SHOWN = ("HR@10", "NDCG@10")
CUT_OFF = "†"


def curve(job: Job, report: Report) -> dict[str, Any]:
    """Training of one seed: by epoch the loss and the validation metrics, and where and why it ended.

    ``most_epochs`` is ``train.epochs``; ``stopped_early`` is true if the last ``train.patience`` epochs were no better.

    Raises:
        InputError: ``metrics.jsonl`` of the run is missing or damaged.
    """
    lines, epochs, best = read_epochs(job.folder, report), report.cost["epochs"], report.cost["best_epoch"]
    return {
        "seed": job.config.seed,
        "loss": [float(f"{line['loss']:.4g}") for line in lines],
        **{metric: [round(line["valid"][metric], 5) for line in lines] for metric in SHOWN},
        "best_epoch": best,
        "epochs": epochs,
        "most_epochs": job.config.train.epochs,
        "stopped_early": epochs - best >= job.config.train.patience,
    }


def cut_off(row: Row) -> bool:
    """True if the best epoch of any seed is its last, so that more epochs may have been better."""
    return any(one["best_epoch"] == one["epochs"] for one in trainings(row))


def trainings(row: Row) -> list[dict[str, Any]]:
    """For each seed at least "epochs" and "best_epoch"; empty if nothing was trained by epochs."""
    found = row["curves"] if "curves" in row else [row["cost"]]  # the first versions stored no curves
    return [one for one in found if one["epochs"]]


def epoch_count(row: Row) -> str:
    """The number of epochs of a row and its best epoch, as ranges over seeds, with a mark if it was cut off."""
    if not (trained := trainings(row)):
        return "-"
    epochs, best = (_range([one[name] for one in trained]) for name in ("epochs", "best_epoch"))
    return f"{epochs} ({best}){CUT_OFF if cut_off(row) else ''}"


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low}-{high}"


def cut_off_notes(rows: list[Row]) -> list[str]:
    """The note that explains the mark, if a row has it."""
    names = [row["name"] for row in rows if cut_off(row)]
    return [f"{CUT_OFF} The best epoch is the last, so training was cut off: {listed(names)}."] if names else []
