"""Commands on runs: train, tune, evaluate, recommend, compare, report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microlens.cli.output import bar, console, json_text
from microlens.errors import InputError

if TYPE_CHECKING:
    from microlens.config.run_config import RunConfig
    from microlens.runs.run import Run

DatasetOfRun = Annotated[Path | None, typer.Option("--dataset", help="Folder of the run's dataset, if it was moved.")]


def train(
    config: Annotated[Path, typer.Argument(help="A TOML file; see configs/.")],
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Override an option, such as train.lr=1e-3.")
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh/--resume", help="Start again, or resume the run in the run folder (default)."),
    ] = False,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Measure a few steps, print what the run will cost, and write no run.")
    ] = False,
) -> None:
    """Train a run, or resume it, and write its report; use torchrun for several devices."""
    from microlens.config.run_config import RunConfig

    if dry:
        _show_costs(RunConfig.load(config, assignments), config)
        return
    from microlens.runs.train import train as train_run

    loaded = RunConfig.load(config, assignments)
    report = train_run(loaded, fresh=fresh, progress=True)
    _show_metrics(report.metrics, report.num_targets)
    console.print(f"{loaded.output / 'report.json'} is written. Next: microlens recommend {loaded.output} --user ID")


def _show_costs(config: "RunConfig", path: Path) -> None:
    from microlens.cli.terminal_tables import run_cost_table
    from microlens.runs.dry_run import dry_run

    costs = dry_run(config)
    console.print(run_cost_table(costs))
    device = costs[config.output.name].device
    console.print(f"Extrapolated from a few steps on {device}. Next: microlens train {path}")


def tune(
    config: Annotated[Path, typer.Argument(help="A TOML file with a [tune] table of ranges.")],
    trials: Annotated[int, typer.Option(min=1, help="Total number of trials; a restart runs the remaining ones.")] = 20,
    minutes: Annotated[
        float | None, typer.Option(help="Time limit in minutes, after which no new trial starts.")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Override an option, such as train.epochs=5.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the study; tune in the run folder by default.")] = None,
) -> None:
    """Search for the options with the best validation metric, or resume a search; test targets are never read."""
    if minutes is not None and not minutes > 0:  # also rejects NaN
        raise InputError(f"--minutes is {minutes:g}; it must be a number of minutes above 0.")
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
    """Rank the validation and test targets of a trained run again, among the whole catalogue."""
    from microlens.runs.run import load

    measured = load(run, dataset, progress=not as_json).evaluate()
    if as_json:
        typer.echo(json_text(measured))
    else:
        _show_metrics(measured["metrics"], measured["num_targets"])


def _show_metrics(metrics: dict[str, dict[str, dict[str, float]]], num_targets: dict[str, dict[str, int]]) -> None:
    from microlens.cli.terminal_tables import metrics_table
    from microlens.runs.terminal import uncut

    uncut(console).print(metrics_table(metrics, num_targets))


def recommend(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    user: Annotated[str | None, typer.Option(help="Id of a user of the dataset.")] = None,
    users: Annotated[
        str | None, typer.Option(help="Several users: all, or a file with one id per line; needs --out.")
    ] = None,
    history: Annotated[str | None, typer.Option(help="Item ids, oldest first, such as 1,2,3.")] = None,
    add_video: Annotated[Path | None, typer.Option(help="The video of a new item to rank among the items.")] = None,
    add_title: Annotated[str | None, typer.Option(help="The title of the new item.")] = None,
    add_tag: Annotated[str | None, typer.Option(help="The tag of the new item.")] = None,
    add_cover: Annotated[Path | None, typer.Option(help="The cover of the new item.")] = None,
    k: Annotated[int, typer.Option("-k", "--top", min=1, help="Number of items per user.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Output file: .parquet, .csv or .jsonl.")] = None,
    dataset: DatasetOfRun = None,
) -> None:
    """Recommend items to a user, to many users, or for a history; a new item may be ranked with them.

    A new item is described by as much of --add-title, --add-video, --add-cover and --add-tag as the run reads.
    """
    if sum(given is not None for given in (user, users, history)) != 1:
        raise InputError("give one of --user ID, --users all, or --history 1,2,3.")
    if (users is None) != (out is None):
        raise InputError("--users and --out need each other: the users, and the output file.")
    from microlens.cli.terminal_tables import recommendation_table
    from microlens.data.new_items import NewItem
    from microlens.runs.run import load

    described = any(given is not None for given in (add_title, add_tag, add_video, add_cover))
    new = [NewItem(title=add_title or "", tag=add_tag or "", video=add_video, cover=add_cover)] if described else []
    if new and out is not None:
        raise InputError("a new item is ranked for one --user or --history, not for --users.")
    opened = load(run, dataset, progress=True)
    if out is not None:
        from microlens.runs.write_lists import check_suffix

        check_suffix(out)
        count = opened.write_recommendations(out, None if users == "all" else read_ids(Path(str(users))), k=k)
        console.print(f"{out} is written: up to {k} items for each of {count:,} users.")
        return
    if user is not None:
        read = opened.history(user)
        found = opened.recommend([user], new_items=new, k=k)
    else:
        read = split_ids(str(history))
        found = opened.recommend(history=read, new_items=new, k=k)
    console.print(recommendation_table(found, read))
    _say_unread(opened, video=add_video, title=add_title, tag=add_tag, cover=add_cover)


def _say_unread(run: "Run", **given: object) -> None:
    """Say which of the options that describe a new item were not used."""
    from microlens.runs.added_items import read_of_new_items

    read = read_of_new_items(run.experiment)
    unread = [f"--add-{name}" for name, value in given.items() if value is not None and name not in read]
    if unread:
        console.print(f"{' and '.join(unread)} not used: this run ranks new items by {' and '.join(read)}.")


def similar(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    item: Annotated[str, typer.Argument(help="Id of an item of the dataset.")],
    k: Annotated[int, typer.Option("-k", "--top", min=1, help="Number of items.")] = 10,
    dataset: DatasetOfRun = None,
) -> None:
    """List the items with the most similar vectors to an item's."""
    from microlens.cli.terminal_tables import recommendation_table
    from microlens.runs.run import load

    console.print(recommendation_table(load(run, dataset, progress=True).similar(item, k), [item]))


def vectors(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Option(help="Output file: .parquet.")],
    video: Annotated[
        list[Path] | None, typer.Option(help="Encode this video instead of the items; may be repeated.")
    ] = None,
    dataset: DatasetOfRun = None,
) -> None:
    """Write the vector of every item of a run, or of new videos."""
    from microlens.runs.run import load
    from microlens.runs.write_lists import write_vectors

    opened = load(run, dataset, progress=True)
    count = write_vectors(out, opened.item_vectors() if not video else opened.encode_videos(video))
    console.print(f"{out} is written: {count:,} vectors.")


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; the first is the baseline.")],
    metric: Annotated[list[str] | None, typer.Option(help="A metric, such as HR@10; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare runs user by user: differences to the first run, with confidence intervals and a paired test.

    Runs that differ only in their seed are averaged and count as one. The p-values have Holm's correction for the
    number of runs that are compared with the first.
    """
    from microlens.cli.terminal_tables import frame_table
    from microlens.runs.compare import compare as compare_runs
    from microlens.runs.terminal import uncut

    frame = compare_runs(runs, metric or ("HR@10", "NDCG@10"))
    if as_json:
        typer.echo(json_text(frame.to_dicts()))
        return
    uncut(console).print(frame_table(frame))
    if len(frame["run"].unique()) > 2:
        console.print("p: with Holm's correction for the number of runs that are compared with the first.")
    single = frame.filter(frame["seeds"] == 1)["run"].unique(maintain_order=True)
    if len(single):
        console.print(
            f"One seed of {', '.join(single)}: intervals and p are over users only and leave out how much another seed "
            "would change the result. Give three seeds of each configuration to compare configurations."
        )


def new_items(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    test: Annotated[bool, typer.Option("--test", help="Test targets; without it, validation targets.")] = False,
    top: Annotated[int, typer.Option("-k", "--top", min=1, help="Length of the lists.")] = 10,
    figure: Annotated[Path | None, typer.Option(help="Draw the curves into this PNG file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what it costs known items to show more new ones: hits of both, by how far new items are raised."""
    from microlens.cli.terminal_tables import frame_table
    from microlens.runs.new_items import new_item_curve

    if figure is not None:
        from microlens.runs.write_lists import check_suffix

        check_suffix(figure, (".png",))
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run) for run in runs]
    curves = {}
    for name, run in zip(names, runs, strict=True):
        with bar(name) as on_progress:
            curves[name] = new_item_curve(run, "test" if test else "valid", top, on_progress)
    if as_json:
        typer.echo(json_text({name: curve.to_dict(as_series=False) for name, curve in curves.items()}))
    else:
        for name, curve in curves.items():
            console.print(f"{name}: HR@{top} of known and new items", frame_table(curve), sep="\n")
    if figure is not None:
        from microlens.page.new_item_chart import draw_new_items

        draw_new_items(curves, figure, top)


def split_ids(text: str) -> list[str]:
    """Parse a list of ids such as ``1,2,3``, or ``"a,b",c`` where an id has a comma.

    Raises:
        InputError: an id is empty, or a quotation mark is not closed.
    """
    import csv

    try:
        ids = [part.strip() for part in next(csv.reader([text], skipinitialspace=True, strict=True), [""])]
    except csv.Error:
        ids = []
    if not ids or not all(ids):
        raise InputError(
            f"--history {text}: expected item ids separated by commas, such as 1,2,3; an id with a comma is quoted, as "
            "in '\"a,b\",c'."
        )
    return ids


def read_ids(path: Path) -> list[str]:
    """Read a file with one id per line.

    Raises:
        InputError: the file cannot be read or contains no id.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"--users {path}: expected all, or a text file with one user id per line.") from None
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise InputError(f"{path} contains no user id; expected one per line.")
    return ids


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders with the same data and protocol.")],
    html: Annotated[Path | None, typer.Option(help="Also write a self-contained HTML page to this file.")] = None,
    dataset: DatasetOfRun = None,
) -> None:
    """Print a table of runs; with --html, write a page with curves, user groups and pictures of recommendations."""
    from microlens.cli.terminal_tables import comparison_table
    from microlens.page import require_charts
    from microlens.page.comparison import read_runs
    from microlens.runs.terminal import uncut

    if html is not None:
        require_charts()
    uncut(console).print(comparison_table({run.name: run.report for run in read_runs(runs)}))
    if html is not None:
        from microlens.page.run_page import write_page

        write_page(html, runs, dataset)
        console.print(f"{html} is written; open it in a browser.")
