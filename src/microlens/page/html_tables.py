"""The tables of the page: accuracy, cost and provenance."""

from collections.abc import Mapping, Sequence
from html import escape

from microlens.evaluation.metrics import reported_names, reported_value
from microlens.page.comparison import ComparedRun

_COHORTS = {
    "all": "All users",
    "warm": "Known items",
    "cold": "New items",
}
_COMMIT_DIGITS = 12


def accuracy_table(runs: Sequence[ComparedRun], guess: Mapping[str, float]) -> str:
    """Test metrics in percent with intervals: one row per cohort and run and one for chance, the best in bold."""
    targets = runs[0].report.num_targets["test"]
    names = reported_names(runs[0].report.metrics["test"]["all"])
    bodies = []
    for cohort, heading in _COHORTS.items():
        if not targets[cohort]:
            continue
        heading_row = (
            f'<tr><th colspan="{len(names) + 1}" scope="rowgroup">{heading} '
            f"<small>({targets[cohort]:,} targets)</small></th></tr>"
        )
        rows = "".join(_accuracy_row(run, runs, cohort, names) for run in runs)
        expected = "".join(f"<td>{100 * guess[metric]:.2f}</td>" for metric in names)
        chance = f'<tr class="chance"><th scope="row">chance</th>{expected}</tr>'
        bodies.append(f"<tbody>{heading_row}{rows}{chance}</tbody>")
    return f"<table>{_head('run', *names)}{''.join(bodies)}</table>"


def _accuracy_row(run: ComparedRun, runs: Sequence[ComparedRun], cohort: str, names: Sequence[str]) -> str:
    cells = []
    for metric in names:
        value = reported_value(run.report.metrics["test"][cohort], metric)
        low, high = reported_value(run.report.intervals["test"][cohort], metric)
        best = max(reported_value(other.report.metrics["test"][cohort], metric) for other in runs)
        number = f"{100 * value:.2f}"
        number = f"<b>{number}</b>" if value == best > 0 else number
        cells.append(f"<td>{number}<small>{100 * low:.2f}&ndash;{100 * high:.2f}</small></td>")
    return f'<tr><th scope="row">{run.label}</th>{"".join(cells)}</tr>'


def cost_table(runs: Sequence[ComparedRun]) -> str:
    """Parameters, training time and peak memory, one row per run."""
    columns = ("run", "parameters", "of which trained", "seconds an epoch", "epochs", "best epoch", "peak memory")
    rows = "".join(_row(run, *_cost_cells(run)) for run in runs)
    return f"<table>{_head(*columns)}<tbody>{rows}</tbody></table>"


def _cost_cells(run: ComparedRun) -> list[str]:
    cost = run.report.cost
    epochs = [f"{cost['seconds_per_epoch']:,.2f}", f"{cost['epochs']}", f"{cost['best_epoch']}"]
    if not cost["epochs"]:
        epochs = ["&ndash;"] * len(epochs)
    memory = f"{cost['peak_memory_bytes'] / 2**30:,.2f} GiB"
    return [f"{cost['parameters']:,}", f"{cost['trainable_parameters']:,}", *epochs, memory]


def provenance(runs: Sequence[ComparedRun]) -> str:
    """Everything needed to reproduce the numbers: commit, seed, configuration, data, versions and device."""
    rows = "".join(_row(run, *_provenance_cells(run)) for run in runs)
    table = (
        f'<div class="scroll"><table class="provenance">{_head("run", "commit", "seed", "configuration", "device")}'
        f"<tbody>{rows}</tbody></table></div>"
    )
    first = runs[0].report
    data = (
        f"<p>Data {escape(first.dataset)}, checksum <code>{escape(first.provenance['data_hash'])}</code>, "
        f"protocol <code>{escape(first.protocol['hash'])}</code>.</p>"
    )
    by_versions: dict[str, list[str]] = {}
    for run in runs:
        versions = ", ".join(f"{name} {version}" for name, version in run.report.provenance["packages"].items())
        by_versions.setdefault(versions, []).append(run.name)
    packages = "".join(
        f"<p>Packages{'' if len(by_versions) == 1 else escape(' of ' + ', '.join(names))}: {escape(versions)}.</p>"
        for versions, names in by_versions.items()
    )
    return table + data + packages


def _provenance_cells(run: ComparedRun) -> list[str]:
    facts, cost = run.report.provenance, run.report.cost
    commit = facts["commit"]
    changed = ", changed" if commit.endswith("+") else ""
    processes = f", {cost['processes']} processes" if cost["processes"] > 1 else ""
    return [
        f'<code title="{escape(commit)}">{escape(commit.rstrip("+")[:_COMMIT_DIGITS])}</code>{changed}',
        str(facts["seed"]),
        f"<code>{escape(facts['config_hash'])}</code>",
        escape(cost["device"]) + processes,
    ]


def _head(*columns: str) -> str:
    cells = "".join(f'<th scope="col">{column}</th>' for column in columns)
    return f"<thead><tr>{cells}</tr></thead>"


def _row(run: ComparedRun, *cells: str) -> str:
    return f'<tr><th scope="row">{run.label}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
