"""Loading of finished runs for a comparison, and the baseline of random guessing."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from microlens.config.run_config import RunConfig
from microlens.data.dataset import Dataset
from microlens.data.interactions import Int64
from microlens.data.protocol import Protocol
from microlens.data.split import Split
from microlens.errors import InputError, printable
from microlens.evaluation.metrics import CUTOFFS
from microlens.evaluation.report import Report, read_epochs, read_ranks
from microlens.files.run_manifest import CONFIG
from microlens.page.bars import Bar
from microlens.runs.dataset_location import find_dataset

COLOURS = ("#0072B2", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours of Okabe and Ito that are visible on white, without green, which marks targets."""

METRIC = "HR@10"


@dataclass(frozen=True, kw_only=True)
class Training:
    """Loss and validation HR@10 by epoch; without ``loss``, ``valid`` is the one value of an untrained model."""

    name: str
    colour: str
    valid: Sequence[float]
    loss: Sequence[float] = ()
    best_epoch: int = 0


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A finished run; ``ranks`` (Q,) of the test targets, ``epochs`` the lines of ``metrics.jsonl``."""

    name: str
    colour: str
    folder: Path
    report: Report
    ranks: Int64
    epochs: list[dict[str, Any]]

    @property
    def label(self) -> str:
        """The run's name with its colour, as HTML."""
        return f'<span class="run" style="--colour:{self.colour}">{escape(self.name)}</span>'

    @property
    def training(self) -> Training:
        """The training curves."""
        return Training(
            name=self.name,
            colour=self.colour,
            valid=[line["valid"][METRIC] for line in self.epochs] or [self.report.metrics["valid"]["all"][METRIC]],
            loss=[line["loss"] for line in self.epochs],
            best_epoch=self.report.cost["best_epoch"],
        )

    def bar(self, cohort: str) -> Bar:
        """Test HR@10 on a cohort, which must have targets."""
        low, high = self.report.intervals["test"][cohort][METRIC]
        value = self.report.metrics["test"][cohort][METRIC]
        return Bar(name=self.name, colour=self.colour, value=value, low=low, high=high)


def read_runs(folders: Sequence[Path]) -> list[ComparedRun]:
    """Read finished runs to compare; each gets a colour and is named by its folder, or by its path if ambiguous.

    Raises:
        InputError: there are none or more than there are colours, one is unfinished or damaged, or they differ in
            protocol or data.
    """
    if not folders:
        raise InputError("there is nothing to compare; name at least one run folder.")
    if len(folders) > len(COLOURS):
        raise InputError(f"a page has colours for {len(COLOURS)} runs, {len(folders)} were given; name fewer.")
    reports = [Report.read(folder) for folder in folders]
    names = [folder.resolve().name for folder in folders]
    runs = [
        ComparedRun(
            name=printable(name if names.count(name) == 1 else str(folder)),
            colour=colour,
            folder=folder,
            report=report,
            ranks=read_ranks(folder)["test"][0],
            epochs=read_epochs(folder, report),
        )
        for name, colour, folder, report in zip(names, COLOURS, folders, reports, strict=False)
    ]
    for run in runs[1:]:
        _refuse_incomparable(runs[0], run)
    return runs


def _refuse_incomparable(first: ComparedRun, other: ComparedRun) -> None:
    for what, one, two in (
        ("protocol", first.report.protocol["hash"], other.report.protocol["hash"]),
        ("data", first.report.provenance["data_hash"], other.report.provenance["data_hash"]),
    ):
        if one != two:
            raise InputError(
                f"{first.folder} and {other.folder} cannot be compared: their {what} differs ({one} and {two}); "
                f"compare runs on the same data with the same [protocol]."
            )


def open_data(run: ComparedRun, dataset: Path | None = None) -> tuple[Dataset, Split]:
    """Open the dataset of a run, in ``dataset`` if given, and split it by the run's protocol.

    Raises:
        InputError: the dataset is missing, or is not the one that the run was trained on.
    """
    config = RunConfig.load(run.folder / CONFIG, of_run=True)
    data = find_dataset(run.folder, config.dataset, run.report.provenance["data_hash"], dataset)
    return data, data.split(Protocol(**config.protocol.model_dump()))


def chance(split: Split) -> dict[str, float]:
    """The metrics expected of a random ranking of the items that a user has not seen, keyed as in a report."""
    users, targets = np.unique(split.target_users("test"), return_counts=True)
    candidates = split.num_items - split.history_lengths("test")[users]
    expected = {}
    for cutoff in CUTOFFS:
        reached = np.minimum(cutoff, candidates)
        gains = np.cumsum(1 / np.log2(np.arange(2, cutoff + 2)))
        most = gains[np.minimum(targets, cutoff) - 1]
        expected[f"HR@{cutoff}"] = float(np.mean(_one_of(targets, reached, candidates)))
        expected[f"Recall@{cutoff}"] = float(np.mean(reached / candidates))
        expected[f"NDCG@{cutoff}"] = float(np.mean(targets * gains[reached - 1] / candidates / most))
    return expected


def _one_of(targets: Int64, reached: Int64, candidates: Int64) -> npt.NDArray[np.float64]:
    """The probability that any of ``targets`` is among the first ``reached`` of ``candidates`` at random: all (U,)."""
    missed = np.ones(len(targets))
    for number in range(int(targets.max())):  # probability that the next target also misses
        free = np.maximum(candidates - reached - number, 0) / np.maximum(candidates - number, 1)
        missed *= np.where(number < targets, free, 1.0)
    return 1 - missed


def by_accuracy(runs: Sequence[ComparedRun], cohort: str) -> list[ComparedRun]:
    """The runs sorted by test HR@10 on a cohort, best first."""
    return sorted(runs, key=lambda run: -run.report.metrics["test"][cohort][METRIC])
