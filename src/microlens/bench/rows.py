"""What a table of runs consists of."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import microlens
from microlens.config.run_config import RunConfig
from microlens.errors import InputError
from microlens.evaluation.report import Report
from microlens.files.run_manifest import BEYOND, REPORT, check

MOST_SEEDS = 10
COST = (
    "parameters",
    "trainable_parameters",
    "multiply_adds_per_item",
    "flops_per_step",
    "seconds_per_epoch",
    "seconds",
    "epochs",
    "best_epoch",
    "peak_memory_bytes",
    "device",
)
"""What tables show of a report's cost."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a table, that of one seed: its name, its configuration with the run folder, its data's checksum."""

    name: str
    config: RunConfig
    data_hash: str

    @property
    def folder(self) -> Path:
        """The run folder; its name changes with the configuration."""
        return self.config.output

    def report(self) -> Report | None:
        """The report of the finished run, or None while there is none of this configuration, data and version.

        Raises:
            InputError: what the table takes from the folder is damaged or was changed; see
                :meth:`microlens.evaluation.report.Report.read`.
        """
        if not (self.folder / REPORT).exists():
            return None
        report = Report.read(self.folder)
        check(self.folder, BEYOND)
        provenance = report.provenance
        found = provenance["config_hash"], provenance["data_hash"], provenance["packages"]["microlens"]
        if found != (self.config.hash, self.data_hash, microlens.__version__):
            return None
        lacking = next((name for name in COST if name not in report.cost), None)
        if lacking is not None:
            raise InputError(f"{self.folder / REPORT} is damaged (cost.{lacking} is missing); remove the folder.")
        return report


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table: its group and name, its run, the paper's row that it answers, and what it is compared with.

    ``config`` is the first seed's; ``against`` the name of a row of the same data and protocol. A row that starts
    ``from_source`` takes its first weights from that job.
    """

    group: str
    name: str
    config_path: Path
    config: RunConfig
    data_hash: str
    paper: str
    against: str
    from_source: Job | None = None

    def jobs(self, seeds: int) -> list[Job]:
        """One job a seed, counted up from the configuration's."""
        configs = [self._seeded(number) for number in range(seeds)]
        names = [self.name, *(f"{self.name}, seed {config.seed}" for config in configs[1:])]
        return [
            Job(name=name, config=config, data_hash=self.data_hash) for name, config in zip(names, configs, strict=True)
        ]

    def _seeded(self, number: int) -> RunConfig:
        if not number:
            return self.config
        config = self.config.model_copy(update={"seed": self.config.seed + number})
        return placed(config, self.config.output.parent, self.config_path.stem)

    def finished(self) -> list[tuple[Job, Report]]:
        """The finished runs of this row, by seed; none unless the first is finished.

        Raises:
            InputError: the first seed's report cannot be read or was changed.
        """
        jobs = self.jobs(MOST_SEEDS)
        first = jobs[0].report()
        if first is None:
            return []
        return [(jobs[0], first), *_readable(jobs[1:])]


def _readable(jobs: list[Job]) -> Iterator[tuple[Job, Report]]:
    for job in jobs:
        try:
            report = job.report()
        except InputError:
            continue
        if report is not None:
            yield job, report


def placed(config: RunConfig, output: Path, stem: str) -> RunConfig:
    """A configuration with its run folder in ``output``, named after its file and hash."""
    return config.model_copy(update={"output": output / f"{stem}-{config.hash}"})


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A table: its rows in order, those that are left out and why, and the paper's numbers.

    ``published`` holds "dataset", "source", "faults" and "rows", the latter two keyed by the paper's names; ``seeds``
    is how many runs of each row are wanted, ``protocol`` the name of the one they follow. ``output`` holds the runs of
    all tables of a dataset, which share them.
    """

    name: str
    title: str
    dataset: Path
    data_hash: str
    output: Path
    published: dict[str, Any]
    seeds: int = 1
    mixed: bool = False
    protocol: str = "paper"
    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Where the table is written, without an ending."""
        return self.output / (self.name if self.protocol == "paper" else f"{self.name}-{self.protocol}")

    def jobs(self) -> list[Job]:
        """What there is to train, in order: what others start from, every row's first seed, then the other seeds."""
        sources = {row.from_source.folder: row.from_source for row in self.rows if row.from_source}
        by_seed = zip(*(row.jobs(self.seeds) for row in self.rows), strict=True)
        jobs = [*sources.values(), *(job for jobs in by_seed for job in jobs)]
        return list({job.folder: job for job in reversed(jobs)}.values())[::-1]

    def only(self, rows: list[Row]) -> "Bench":
        """The same table with some of its rows."""
        return replace(self, rows=rows)


def quoted(path: Path) -> str:
    """A path as a TOML string."""
    return json.dumps(str(path))
