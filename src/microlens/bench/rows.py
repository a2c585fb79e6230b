"""The parts of a table of runs: jobs, rows and the table itself."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import microlens
from microlens.config.run_config import RunConfig
from microlens.errors import InputError
from microlens.evaluation.report import Report, read_epochs
from microlens.files.run_manifest import BEYOND, LAST, REPORT, check
from microlens.runs.assembly import depends_on_seed
from microlens.runs.input_files import check_inputs
from microlens.training.checkpoint import load_facts

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
"""The entries of a report's cost that tables show."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a table with one seed: name, configuration including the run folder, and checksum of the data."""

    name: str
    config: RunConfig
    data_hash: str

    @property
    def folder(self) -> Path:
        """The run folder; its name depends on the configuration."""
        return self.config.output

    def report(self) -> Report | None:
        """The report of the finished run, or None if there is none for this configuration, data and version.

        Raises:
            InputError: a file that the table uses is damaged or was changed; see
                :meth:`microlens.evaluation.report.Report.read`.
        """
        if not (self.folder / REPORT).exists():
            return None
        report = Report.read(self.folder)
        check(self.folder, BEYOND)
        if not self._is_of(report):
            return None
        check_inputs(self.folder, self.config)
        lacking = next((name for name in COST if name not in report.cost), None)
        if lacking is not None:
            raise InputError(f"{self.folder / REPORT} is damaged (cost.{lacking} is missing); remove the folder.")
        read_epochs(self.folder, report)
        return report

    def is_outdated(self) -> bool:
        """True if the folder has a run of other data, or a report of another version, which is trained again."""
        with suppress(InputError):  # a damaged file is named when the run starts
            if (self.folder / REPORT).exists():
                return not self._is_of(Report.read(self.folder))
            return (self.folder / LAST).exists() and load_facts(self.folder / LAST).get("data_hash") != self.data_hash
        return False

    def _is_of(self, report: Report) -> bool:
        found = report.provenance
        return (found["config_hash"], found["data_hash"], found["packages"]["microlens"]) == (
            self.config.hash,
            self.data_hash,
            microlens.__version__,
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table: group and name, run, the corresponding row of the paper, and the reference row.

    ``config`` is that of the first seed; ``against`` is the name of a row with the same data and protocol. A row with
    ``from_source`` starts from the weights of that job.
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
        """One job per seed, counting up from that of the configuration; one in all for a model without randomness."""
        with suppress(InputError):  # an unknown model is named when its run starts
            seeds = seeds if depends_on_seed(self.config) else 1
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
        """The finished runs of this row, by seed; empty unless the first one is finished.

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
    """Set the run folder of a configuration to a folder in ``output`` named by its file and hash."""
    return config.model_copy(update={"output": output / f"{stem}-{config.hash}"})


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A table: its rows in order, rows that are left out with reasons, and the paper's numbers.

    ``published`` holds "dataset", "source", "faults" and "rows", the latter two keyed by the paper's names. ``seeds``
    is the number of runs per row, ``protocol`` the name of the rows' protocol. ``output`` holds the runs of all tables
    of a dataset, which share them. ``variant`` is in the name of the files of a table that is not the whole one.
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
    variant: str = ""
    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The path of the table's files, without suffix."""
        protocol = "" if self.protocol == "paper" else self.protocol
        return self.output / "-".join(filter(None, (self.name, protocol, self.variant)))

    def jobs(self) -> list[Job]:
        """The jobs in training order: source runs, the first seed of every row, then the other seeds."""
        sources = {row.from_source.folder: row.from_source for row in self.rows if row.from_source}
        by_seed = zip_longest(*(row.jobs(self.seeds) for row in self.rows))
        jobs = [*sources.values(), *(job for jobs in by_seed for job in jobs if job is not None)]
        return list({job.folder: job for job in reversed(jobs)}.values())[::-1]

    def only(self, rows: list[Row]) -> "Bench":
        """A copy of the table with some of its rows."""
        return replace(self, rows=rows)


def quoted(path: Path) -> str:
    """A path as a TOML string."""
    return json.dumps(str(path))
