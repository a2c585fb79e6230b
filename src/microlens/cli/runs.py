"""Commands on single runs: train, tune, evaluate, recommend, report."""

import json
from pathlib import Path
from typing import Annotated

import typer

from microlens.cli.output import bar, console
from microlens.errors import InputError

DatasetOfRun = Annotated[
    Path | None, typer.Option("--dataset", help="Where the dataset of the run lies now, if it was moved.")
]


def train(
    config: Annotated[Path, typer.Argument(help="A TOML file; see configs/.")],
    assignments: Annotated[list[str] | None, typer.Option("--set", help="key=value, such as train.lr=1e-3.")] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh/--resume", help="Start again, or go on with what the run folder holds (the default)."),
    ] = False,
) -> None:
    """Train one run, or the rest of it, and report; with torchrun on several devices."""
    from microlens.config.run_config import RunConfig
    from microlens.runs.run import train as train_run

    loaded = RunConfig.load(config, assignments)
    report = train_run(loaded, fresh=fresh)
    _show_metrics(report.metrics, report.num_targets)
    console.print(f"{loaded.output / 'report.json'} is written. Next: microlens recommend {loaded.output} --user ID")


def tune(
    config: Annotated[Path, typer.Argument(help="A TOML file with a [tune] table of ranges.")],
    trials: Annotated[int, typer.Option(min=1, help="How many in all; started again, those missing.")] = 20,
    minutes: Annotated[float | None, typer.Option(help="After so long no other trial starts.")] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="key=value, such as train.epochs=5.")] = None,
    output: Annotated[Path | None, typer.Option(help="The folder of the study; tune in the run's by default.")] = None,
) -> None:
    """Search options by their validation metric, going on where a killed search was; the test part is never read."""
    if minutes is not None and not minutes > 0:  # which NaN is not
        raise InputError(f"--minutes is {minutes:g}; it takes minutes above 0.")
    from microlens.cli.terminal_tables import trial_table
    from microlens.runs.display import row_display
    from microlens.runs.tune import Search

    search = Search(config, assignments, output)
    with row_display(console, trials) as on_row:

        def show(number: int, event: str) -> None:
            if event != "started":
                console.print(f"trial {number}: {event}")
            on_row(f"trial {number}", "started" if event == "started" else "finished")

        found = search.run(trials, seconds=None if minutes is None else 60 * minutes, on_trial=show)
    console.print(trial_table(found.trials))
    console.print(f"Best: {100 * found.value:.2f} % on validation. Next: microlens train {search.output / 'best.toml'}")


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    dataset: DatasetOfRun = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rank the targets of a trained run again, over the whole catalogue."""
    from microlens.runs.run import evaluate as evaluate_run

    with bar("targets ranked") as on_progress:
        measured = evaluate_run(run, on_progress, dataset=dataset)
    if as_json:
        typer.echo(json.dumps(measured, indent=1))
    else:
        _show_metrics(measured["metrics"], measured["num_targets"])


def _show_metrics(metrics: dict[str, dict[str, dict[str, float]]], num_targets: dict[str, dict[str, int]]) -> None:
    from microlens.cli.terminal_tables import metrics_table

    console.print(metrics_table(metrics, num_targets))


def recommend(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    user: Annotated[int | None, typer.Option(help="A user of the dataset, by id.")] = None,
    history: Annotated[str | None, typer.Option(help="Item ids, oldest first, such as 1,2,3.")] = None,
    add_video: Annotated[
        Path | None, typer.Option(help="Rank this video, which nobody has seen, among the items.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--top", min=1, help="How many.")] = 10,
    dataset: DatasetOfRun = None,
) -> None:
    """Recommend items to a user or for a history, with titles."""
    from microlens.cli.terminal_tables import recommendation_table
    from microlens.runs.recommend import recommend as recommend_items

    found = recommend_items(run, user=user, history=history, add_video=add_video, k=k, dataset=dataset)
    console.print(recommendation_table(found))


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders on the same data and protocol.")],
    html: Annotated[Path | None, typer.Option(help="Also write a self-contained page.")] = None,
    dataset: DatasetOfRun = None,
) -> None:
    """Compare runs: print their table, and write a page with curves, groups and recommendations as pictures."""
    from microlens.cli.terminal_tables import comparison_table
    from microlens.page import require_charts, write_page
    from microlens.page.comparison import read_runs

    if html is not None:
        require_charts()
    console.print(comparison_table({run.name: run.report for run in read_runs(runs)}))
    if html is not None:
        write_page(html, runs, dataset)
        console.print(f"{html} is written; open it in a browser.")
