"""The overview of the page: the best run on new and on known items, its lead and its cost."""

from collections.abc import Mapping, Sequence
from html import escape

from microlens.data.split import Split
from microlens.evaluation.report import cohorts
from microlens.evaluation.significance import difference
from microlens.page.bars import Bar, percent
from microlens.page.comparison import METRIC, ComparedRun, by_accuracy

_COHORTS = {
    "all": ("All users", "over all users"),
    "warm": ("Known items", "on items seen in training"),
    "cold": ("New items", "on items nobody has interacted with"),
}


def verdict(runs: Sequence[ComparedRun], guess: Mapping[str, float]) -> str:
    """One sentence on new and known items, as HTML."""
    findings = [_finding(runs, cohort, guess[METRIC]) for cohort in ("cold", "warm") if cohort in _present(runs)]
    sentence = "; ".join(findings) + "."
    return sentence[0].upper() + sentence[1:]


def _present(runs: Sequence[ComparedRun]) -> list[str]:
    return [cohort for cohort in _COHORTS if runs[0].report.num_targets["test"][cohort]]


def _finding(runs: Sequence[ComparedRun], cohort: str, guess: float) -> str:
    best, *others = [run.bar(cohort) for run in by_accuracy(runs, cohort)]
    where = _COHORTS[cohort][1]
    if best.value == 0:
        return f"{where}, no run has the right one in its top ten for any user (chance: {percent(guess)}&nbsp;%)"
    beside = [f"chance: {percent(guess)}&nbsp;%"]
    if others and others[0].value:
        beside.insert(0, f"next best: {escape(others[0].name)}, {percent(others[0].value)}&nbsp;%")
    elif others:
        beside.insert(0, "all other runs: 0&nbsp;%")
    return (
        f"{where}, <b>{escape(best.name)}</b> has the right one in its top ten for "
        f"<b>{percent(best.value)}&nbsp;%</b> of users ({'; '.join(beside)})"
    )


def panels(runs: Sequence[ComparedRun], split: Split, guess: Mapping[str, float]) -> str:
    """Bars of HR@10 over all users, on known and on new items, and of the time per epoch."""
    shown = [_accuracy_panel(runs, split, cohort, guess[METRIC]) for cohort in _present(runs)]
    return "\n".join([*shown, _cost_panel(runs)])


def _accuracy_panel(runs: Sequence[ComparedRun], split: Split, cohort: str, guess: float) -> str:
    bars = [run.bar(cohort) for run in runs]
    longest = max([guess, *(run.bar(shown).high for run in runs for shown in _present(runs))])
    best = max(bar.value for bar in bars)
    rows = [_accuracy_row(run, bar, bar.value == best > 0, longest, guess) for run, bar in zip(runs, bars, strict=True)]
    number = runs[0].report.num_targets["test"][cohort]
    return _panel(_COHORTS[cohort][0], f"{METRIC}, {number:,} targets", _leader(runs, split, cohort), rows)


def _leader(runs: Sequence[ComparedRun], split: Split, cohort: str) -> str:
    if len(runs) == 1:
        return "The only run on this page."
    best, second = by_accuracy(runs, cohort)[:2]
    mask, users = cohorts(split, "test")[cohort], split.target_users("test")
    found = difference([best.ranks[mask]], [second.ranks[mask]], METRIC, users[mask])
    ahead, low, high = (found[name] for name in ("mean", "low", "high"))
    names = f"<b>{escape(best.name)}</b> leads {escape(second.name)} by"
    if low <= 0:
        names = f"No clear winner: {escape(best.name)} and {escape(second.name)} differ by"
    interval = f"95&nbsp;% interval over users {_points(low)} to {_points(high)}, one run each"
    return f"{names} {_points(ahead)} points ({interval})."


def _points(share: float) -> str:
    return f"{'&minus;' if share < 0 else ''}{percent(abs(share))}"


def _accuracy_row(run: ComparedRun, bar: Bar, best: bool, longest: float, guess: float) -> str:
    low, value, high, chance = (100 * share / longest for share in (bar.low, bar.value, bar.high, guess))
    track = (
        f'<i style="width:{value:.2f}%;background:{bar.colour}"></i>'
        f'<u style="left:{low:.2f}%;width:{high - low:.2f}%"></u><s style="left:{chance:.2f}%"></s>'
    )
    return _row(run, f"{percent(bar.value)}&nbsp;%", track, best)


def _cost_panel(runs: Sequence[ComparedRun]) -> str:
    seconds = [run.report.cost["seconds_per_epoch"] for run in runs]
    longest = max(seconds) or 1.0
    rows = [
        _row(
            run,
            f"{second:,.1f}&nbsp;s" if second else "no training",
            f'<i style="width:{100 * second / longest:.2f}%;background:{run.colour}"></i>',
            best=False,
        )
        for run, second in zip(runs, seconds, strict=True)
    ]
    return _panel("Cost", "seconds an epoch", _cost_of_best(runs), rows)


def _cost_of_best(runs: Sequence[ComparedRun]) -> str:
    best = by_accuracy(runs, "all")[0]
    cost = best.report.cost
    if not cost["epochs"]:
        return f"<b>{escape(best.name)}</b>, best over all users, has nothing to train."
    return (
        f"<b>{escape(best.name)}</b>, best over all users, trained {cost['trainable_parameters']:,} parameters for "
        f"{cost['epochs']} epochs."
    )


def _row(run: ComparedRun, number: str, track: str, best: bool) -> str:
    return (
        f'<div class="bar{" best" if best else ""}"><div><span>{run.label}</span><span class="number">{number}</span>'
        f'</div><span class="track">{track}</span></div>'
    )


def _panel(heading: str, unit: str, text: str, rows: Sequence[str]) -> str:
    return f'<section class="panel"><h3>{heading}</h3><small>{unit}</small><p>{text}</p>{"".join(rows)}</section>'
