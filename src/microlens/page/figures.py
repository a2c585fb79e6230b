"""The charts of the page: training curves, and accuracy by popularity of the next item."""

from collections.abc import Mapping, Sequence

from microlens.evaluation.report import POPULARITY_GROUPS
from microlens.page.charts import Curve, bar_chart, line_chart
from microlens.page.comparison import METRIC, ComparedRun, percent


def training_figures(runs: Sequence[ComparedRun]) -> str:
    """Training loss and validation HR@10 by epoch; a run without epochs is a level line in the second chart."""
    trained = [run for run in runs if run.epochs]
    if not trained:
        return '<p class="about">None of these runs has anything to train.</p>'
    losses = [_curve(run, [line["loss"] for line in run.epochs]) for run in trained]
    loss = line_chart("loss", losses, label="Loss by epoch")
    accuracies = [_validation(run) for run in runs]
    valid = line_chart("valid", accuracies, label=f"Validation {METRIC} by epoch", shares=True)
    untrained = " A dashed line is a run that has nothing to train." if len(trained) < len(runs) else ""
    return (
        f'<p class="about">The ring marks the epoch that was kept, the best on the validation targets.{untrained}</p>'
        f'<div class="charts"><figure><figcaption>Training loss</figcaption>{loss}</figure>'
        f"<figure><figcaption>{METRIC} on validation targets</figcaption>{valid}</figure></div>"
    )


def _validation(run: ComparedRun) -> Curve:
    if run.epochs:
        return _curve(run, [line["valid"][METRIC] for line in run.epochs])
    return Curve(name=run.name, colour=run.colour, ys=[run.report.metrics["valid"]["all"][METRIC]])


def _curve(run: ComparedRun, values: list[float]) -> Curve:
    epochs = [line["epoch"] for line in run.epochs]
    best = epochs.index(run.report.cost["best_epoch"])
    return Curve(name=run.name, colour=run.colour, xs=epochs, ys=values, marked=best)


def group_figure(runs: Sequence[ComparedRun], guess: Mapping[str, float]) -> str:
    """Test HR@10 on new items and on the five popularity groups of known items."""
    names = {"cold": "new", **{f"popularity-{number}": f"{number}" for number in range(1, POPULARITY_GROUPS + 1)}}
    names["popularity-1"] = "1, least popular"
    names[f"popularity-{POPULARITY_GROUPS}"] = f"{POPULARITY_GROUPS}, most popular"
    targets = runs[0].report.num_targets["test"]
    groups = [
        (name, f"{targets[cohort]:,} targets", [run.bar(cohort) for run in runs] if targets[cohort] else [])
        for cohort, name in names.items()
        if targets[cohort] or targets["warm"]  # without known targets, the popularity groups are empty
    ]
    chart = bar_chart("groups", groups, chance=guess[METRIC], label=f"{METRIC} by popularity group")
    legend = "".join(f"<span>{run.label}</span>" for run in runs)
    return (
        f'<div class="legend">{legend}<span><span class="dots"></span>chance, {percent(guess[METRIC])}&nbsp;%</span>'
        f'</div><div class="scroll"><figure class="wide">{chart}</figure></div>'
    )
