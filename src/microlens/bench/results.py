"""The results of a table as JSON, computed from finished runs."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from microlens.bench.curves import curve
from microlens.bench.differences import Ranking, add_differences, winners
from microlens.bench.rows import COST, Bench, Job, Row
from microlens.cost.table9 import table_9
from microlens.data.dataset import Dataset
from microlens.data.interactions import Int64
from microlens.data.protocol import Protocol
from microlens.data.split import Split
from microlens.errors import InputError
from microlens.evaluation.beyond_accuracy import activity_groups, tag_groups
from microlens.evaluation.metrics import METRICS
from microlens.evaluation.report import Report, cohorts, read_ranks
from microlens.evaluation.significance import intervals, mean_metrics
from microlens.files.json_files import read_json
from microlens.files.writing import digest_of, write_text
from microlens.runs.assembly import depends_on_seed
from microlens.runs.input_files import named_files
from microlens.runs.list_metrics import read_beyond

# Estimated power draw of a busy server core and of a data-centre GPU at the wall, without cooling.
WATTS_A_THREAD, WATTS_A_GPU = 12.0, 400.0

_NUMBERS = re.compile(r"\[[-+\d.eE,\s]*\]")

Finished = list[tuple[Job, Report]]
Masks = dict[str, npt.NDArray[np.bool_]]


def collect(bench: Bench, failed: Mapping[str, str]) -> dict[str, Any]:
    """The contents of a table's JSON: its rows in order, missing rows with reasons, and the provenance of each row.

    Args:
        bench: the table.
        failed: the return value of :meth:`microlens.bench.Runner.run`.
    """
    missing = dict(bench.left_out)
    finished: dict[str, Finished] = {}
    masks, rankings = _Masks(bench), dict[str, Ranking]()
    for row in bench.rows:
        try:
            found = row.finished()
            if found:
                rankings[row.name] = _ranking(row, found, masks)
                finished[row.name] = found
            else:
                missing[row.name] = failed.get(row.name, "not trained yet")
        except InputError as error:
            missing[row.name] = str(error)
    rows = [_row_result(row, finished[row.name], masks, bench) for row in bench.rows if row.name in finished]
    add_differences(rows, {row.name: row.against for row in bench.rows}, rankings)
    content = {
        "table": bench.name,
        "title": bench.title,
        "dataset": bench.dataset.resolve().name,
        "data_hash": bench.data_hash,
        "protocols": {found[0][1].protocol["hash"]: found[0][1].protocol for found in finished.values()},
        "protocol_name": bench.protocol,
        "mixed": bench.mixed,
        "published": {name: bench.published[name] for name in ("dataset", "source")},
        "counted": _counted_costs() if bench.name == "cost" else None,
        "printed_costs": bench.published["rows"] if bench.name == "cost" else None,
        "watts": {"a thread": WATTS_A_THREAD, "a GPU": WATTS_A_GPU},
        "winners": winners(rows, rankings),
        "rows": rows,
        "missing": missing,
    }
    return {**content, "checksum": checksum_of(content)}


def checksum_of(content: Mapping[str, Any]) -> str:
    """The SHA-256 of a table's JSON without its ``checksum`` entry."""
    plain = {name: value for name, value in content.items() if name != "checksum"}
    return digest_of(plain)


def write_json(path: Path, results: Mapping[str, Any]) -> None:
    """Write the output of :func:`collect`."""
    write_text(path, _NUMBERS.sub(_on_one_line, json.dumps(results, indent=1)) + "\n")


def _on_one_line(numbers: re.Match[str]) -> str:
    return " ".join(numbers[0].split()).replace("[ ", "[").replace(" ]", "]")


def read_results(path: Path) -> dict[str, Any]:
    """Read a table's JSON.

    Raises:
        InputError: it is missing, of another version, or was changed after it was written.
    """
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        stated = results["checksum"]
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; microlens bench writes it.") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{path} does not hold results of this version of microlens bench.") from None
    if stated != checksum_of(results):
        raise InputError(f"{path} was changed after microlens bench wrote it; run microlens bench again.")
    return results


class _Masks:
    """The users of test targets and the masks of all slices, computed once per protocol."""

    def __init__(self, bench: Bench) -> None:
        self.dataset = Dataset(bench.dataset)
        self.known: dict[str, tuple[Int64, dict[str, Masks]]] = {}

    def of(self, row: Row) -> tuple[Int64, dict[str, Masks]]:
        protocol = Protocol(**row.config.protocol.model_dump())
        if protocol.hash not in self.known:
            self.known[protocol.hash] = self._of(self.dataset.split(protocol))
        return self.known[protocol.hash]

    def _of(self, split: Split) -> tuple[Int64, dict[str, Masks]]:
        return split.target_users("test"), {
            "cohorts": cohorts(split, "test"),
            "activity": activity_groups(split, "test"),
            "tags": tag_groups(split, self.dataset, "test"),
        }


def _ranking(row: Row, finished: Finished, masks: _Masks) -> Ranking:
    return Ranking(
        protocol=finished[0][1].protocol["hash"],
        ranks=_test_ranks(finished),
        users=masks.of(row)[0],
        depends_on_seed=depends_on_seed(row.config),
    )


def _test_ranks(finished: Finished) -> list[Int64]:
    return [read_ranks(job.folder)["test"][0] for job, _ in finished]


def _row_result(row: Row, finished: Finished, masks: _Masks, bench: Bench) -> dict[str, Any]:
    ranks, (users, slices) = _test_ranks(finished), masks.of(row)
    first = finished[0][1]
    published = bench.published if bench.protocol == "paper" else {"rows": {}, "faults": {}}
    by_cohort = slices["cohorts"]
    shown = {name: by_cohort[name] for name in ("all", "warm", "cold")}
    return {
        "group": row.group,
        "name": row.name,
        "config": row.config_path.stem,
        "config_hash": row.config.hash,
        "protocol": first.protocol["hash"],
        "seeds": [job.config.seed for job, _ in finished],
        "depends_on_seed": depends_on_seed(row.config),
        "commit": first.provenance["commit"],
        "packages": first.provenance["packages"],
        "features": feature_files(row),
        "num_targets": {name: int(mask.sum()) for name, mask in by_cohort.items()},
        "test": {name: mean_metrics(ranks, mask, users) for name, mask in by_cohort.items()},
        "intervals": {name: intervals(ranks, mask, users) for name, mask in shown.items()},
        "deviation": _deviation(ranks, users),
        "activity": _slices(ranks, slices["activity"], users),
        "tags": _slices(ranks, slices["tags"], users),
        "beyond": beyond_of(finished[0][0]),
        "valid": _valid(finished),
        "curves": [curve(job, report) for job, report in finished if report.cost["epochs"]],
        "difference": None,
        "cost": {**{name: first.cost[name] for name in COST}, "watt_hours": _watt_hours(first.cost)},
        "published": published["rows"].get(row.paper),
        "published_fault": published["faults"].get(row.paper),
    }  # fmt: skip


def _valid(finished: Finished) -> dict[str, float]:
    metrics = [report.metrics["valid"]["all"] for _, report in finished]
    return {name: float(np.mean([of_seed[name] for of_seed in metrics])) for name in METRICS}


def _deviation(ranks: list[Int64], users: Int64) -> dict[str, float] | None:
    if len(ranks) < 2:
        return None
    everybody = np.ones(len(users), bool)
    by_seed = [mean_metrics([of_seed], everybody, users) for of_seed in ranks]
    return {metric: float(np.std([values[metric] for values in by_seed], ddof=1)) for metric in METRICS}


def _slices(ranks: list[Int64], masks: Masks, users: Int64) -> dict[str, Any]:
    return {name: {"targets": int(mask.sum()), **mean_metrics(ranks, mask, users)} for name, mask in masks.items()}


def beyond_of(job: Job) -> dict[str, Any] | None:
    """A run's metrics beyond accuracy, or None if they were not computed."""
    try:
        found = read_beyond(job.folder)
    except InputError:  # the run failed to compute them again
        return None
    return None if found is None else {"features": found["features"], **found["metrics"]}


def _watt_hours(cost: Mapping[str, Any]) -> float:
    """Estimate the energy of training from its duration and its device."""
    threads = re.search(r", (\d+) threads$", cost["device"])
    watts = WATTS_A_THREAD * int(threads[1]) if threads else WATTS_A_GPU
    return round(watts * float(cost["seconds"]) / 3600, 4)


def _counted_costs() -> list[dict[str, Any]] | None:
    """The paper's rows counted from our networks, or None if a library that a network needs is not installed."""
    try:
        return [asdict(row) for row in table_9()]
    except InputError:
        return None


def feature_files(row: Row) -> list[dict[str, str]]:
    """The frozen features that a row and its parts read, with the encoder that ``NAME.json`` beside them names, if any.

    Codes of items have the method that made them, ``codes``, in place of the encoder.
    """
    paths = dict.fromkeys(path for path in named_files(row.config).values() if path.suffix == ".npy")
    return [{"file": path.name, **_maker(path)} for path in paths]


def _maker(path: Path) -> dict[str, str]:
    provenance = path.with_suffix(".json")
    try:
        made = read_json(provenance, _Maker, "") if provenance.is_file() else _Maker()
    except InputError:  # a file written by another program
        made = _Maker()
    return {"codes": made.method} if made.method else {"encoder": made.encoder}


@dataclass(frozen=True)
class _Maker:
    encoder: str = "unknown"
    method: str | None = None
