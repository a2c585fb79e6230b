"""The charts of the page: training curves, and accuracy by popularity of the next item."""

from collections.abc import Mapping, Sequence

from microlens.evaluation.report import POPULARITY_GROUPS
from microlens.page.bars import percent
from microlens.page.charts import Curve, bar_chart, line_chart
from microlens.page.comparison import METRIC, ComparedRun, Training


def training_figures(trainings: Sequence[Training]) -> str:
    """Training loss and validation HR@10 by epoch; what has no epochs is a level line in the second chart."""
    trained = [training for training in trainings if training.loss]
    if not trained:
        return '<p class="about">None of these runs has anything to train.</p>'
    loss = line_chart("loss", [_curve(training, training.loss) for training in trained], label="Loss by epoch")
    accuracies = [_validation(training) for training in trainings]
    valid = line_chart("valid", accuracies, label=f"Validation {METRIC} by epoch", shares=True)
    untrained = " A dashed line is a run that has nothing to train." if len(trained) < len(trainings) else ""
    return (
        f'<p class="about">The ring marks the epoch that was kept, the best on the validation targets.{untrained}</p>'
        f'<div class="charts"><figure><figcaption>Training loss</figcaption>{loss}</figure>'
        f"<figure><figcaption>{METRIC} on validation targets</figcaption>{valid}</figure></div>"
    )


def _validation(training: Training) -> Curve:
    if training.loss:
        return _curve(training, training.valid)
    return Curve(name=training.name, colour=training.colour, ys=training.valid)


def _curve(training: Training, values: Sequence[float]) -> Curve:
    epochs = range(1, len(values) + 1)
    best = training.best_epoch - 1
    return Curve(name=training.name, colour=training.colour, xs=epochs, ys=values, marked=best)


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
