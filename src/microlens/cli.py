"""The command line. Each command loads what it needs when it runs, so that help and data commands start at once."""

import errno
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from microlens.errors import InputError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
data_app = typer.Typer(no_args_is_help=True, help="Make and prepare datasets.")
app.add_typer(data_app, name="data")
# Titles and paths are printed as they are: no markup, no emoji.
_AS_IT_IS: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}
console = Console(**_AS_IT_IS)
_INTERRUPTED = 130
_PAPER_WIDTH = 180  # of tables that go to a file or a pipe
_WRONG_PATHS = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


def main() -> None:
    """Run the command line; the user's mistakes end in one sentence and exit status 2."""
    try:
        app()
    except InputError as error:
        _fail(str(error))
    except OSError as error:
        _fail(_sentence(error))
    except SystemExit as end:
        if end.code != _INTERRUPTED:
            raise
        _fail("interrupted; run the same command again to go on.", status=_INTERRUPTED)


def _sentence(error: OSError) -> str:
    again = "free some and run the same command again: what was finished is kept."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left on the disk; {again}"
    if error.errno == errno.EIO:
        return f"writing failed: the disk is failing, or has no space left; {again}"
    if isinstance(error, _WRONG_PATHS) and error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}."
    raise error


def _fail(sentence: str, status: int = 2) -> None:
    Console(stderr=True, **_AS_IT_IS).print(f"microlens: {sentence}")
    sys.exit(status)


@contextmanager
def _bar(description: str) -> Iterator[Callable[[int, int], None]]:
    from microlens.progress import progress_bar

    with progress_bar(console) as bar:
        task = bar.add_task(description, total=None, note="")
        yield lambda done, total: bar.update(task, completed=done, total=total)


@data_app.command("synth")
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write the release to.")],
    users: Annotated[int, typer.Option(help="Number of users.")] = 2000,
    items: Annotated[int, typer.Option(help="Number of videos.")] = 400,
    seed: Annotated[int, typer.Option(help="Decides everything.")] = 0,
) -> None:
    """Write a synthetic release whose right answer is known, in the official layout with real encoded videos."""
    from microlens.data.synthetic import write_release

    with _bar("videos") as on_progress:
        write_release(out, users=users, items=items, seed=seed, on_progress=on_progress)
    console.print(f"{out}: {users:,} users and {items:,} videos. Next: microlens data prepare {out} DATASET")


@data_app.command("prepare")
def prepare(
    release: Annotated[Path, typer.Argument(help="A folder in the official layout.")],
    dataset: Annotated[Path, typer.Argument(help="Folder to write the dataset to.")],
    frames: Annotated[
        Literal["spread", "middle", "keyframes"],
        typer.Option(
            help="Which frames: spread over the video, consecutive around its middle, or the nearest keyframes."
        ),
    ] = "spread",
    num_frames: Annotated[int, typer.Option(help="Frames a clip.")] = 5,
    size: Annotated[int, typer.Option(help="Height and width of a frame.")] = 224,
    crop: Annotated[
        Literal["squash", "center"], typer.Option(help="Squash the whole frame into the square, or cut out its centre.")
    ] = "squash",
    workers: Annotated[int | None, typer.Option(min=1, help="Decoding processes; one a core by default.")] = None,
) -> None:
    """Check, index and decode a release into a dataset folder; run again, it goes on where it was stopped."""
    from microlens.data.decoding import Settings
    from microlens.data.media import ClipSettings
    from microlens.data.prepare import prepare as prepare_release

    settings = Settings(clips=ClipSettings(frames=frames, num_frames=num_frames, size=size, crop=crop))
    with _bar("media files") as on_progress:
        manifest = prepare_release(release, dataset, settings, workers=workers, on_progress=on_progress)
    _show_manifest(dataset, manifest)


def _show_manifest(dataset: Path, manifest: dict[str, Any]) -> None:
    counts = manifest["counts"]
    for name, title in (("release", "release"), ("paper_protocol", "after the paper's cut")):
        numbers = ", ".join(f"{value:,} {what}" for what, value in counts[name].items())
        console.print(f"{title}: {numbers}")
    console.print(f"stored: {counts['clips']:,} clips, {counts['covers']:,} covers, {counts['sound']:,} sound tracks")
    if counts["out_of_order"]:
        console.print(f"sorted: {counts['out_of_order']:,} interactions stood before an earlier one of the same user")
    for drop in manifest["dropped"]:
        console.print(f"dropped: {drop['count']:,} {drop['what']} ({drop['why']})")
    faults = manifest["faults"]
    for fault in faults[:20]:
        fate = "lost" if fault["lost"] else "kept"
        console.print(f"fault: item {fault['item']}, {fault['file']}, {fault['kind']} {fate}: {fault['fault']}")
    if len(faults) > 20:
        console.print(f"... and {len(faults) - 20:,} more faults in {dataset / 'manifest.json'}")
    console.print(f'{dataset} is ready. Next: microlens train CONFIG, with dataset = "{dataset}"')


@app.command("train")
def train(
    config: Annotated[Path, typer.Argument(help="A TOML file; see configs/.")],
    assignments: Annotated[list[str] | None, typer.Option("--set", help="key=value, such as train.lr=1e-3.")] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh/--resume", help="Start again, or go on with what the run folder holds (the default)."),
    ] = False,
) -> None:
    """Train one run, or the rest of it, and report; with torchrun on several devices."""
    from microlens.config import RunConfig
    from microlens.run import train as train_run

    loaded = RunConfig.load(config, assignments)
    report = train_run(loaded, fresh=fresh)
    _show_metrics(report.metrics, report.num_targets)
    console.print(f"{loaded.output / 'report.json'} is written. Next: microlens recommend {loaded.output} --user ID")


@app.command("tune")
def tune(
    config: Annotated[Path, typer.Argument(help="A TOML file with a [tune] table of ranges.")],
    trials: Annotated[int, typer.Option(min=1, help="How many in all; started again, those missing.")] = 20,
    minutes: Annotated[float | None, typer.Option(help="After so long no other trial starts.")] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="key=value, such as train.epochs=5.")] = None,
    output: Annotated[Path | None, typer.Option(help="The folder of the study; tune in the run's by default.")] = None,
) -> None:
    """Search options by their validation metric, going on where a killed search was; the test part is never read."""
    from microlens.progress import row_display
    from microlens.tables import trial_table
    from microlens.tune import Search

    search = Search(config, assignments, output)
    with row_display(console, trials) as on_row:

        def show(number: int, event: str) -> None:
            if event != "started":
                console.print(f"trial {number}: {event}", markup=False, highlight=False)
            on_row(f"trial {number}", "started" if event == "started" else "finished")

        found = search.run(trials, seconds=None if minutes is None else 60 * minutes, on_trial=show)
    console.print(trial_table(found.trials))
    console.print(f"Best: {100 * found.value:.2f} % on validation. Next: microlens train {search.output / 'best.toml'}")


@app.command("evaluate")
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rank the targets of a trained run again, over the whole catalogue."""
    from microlens.run import evaluate as evaluate_run

    with _bar("targets ranked") as on_progress:
        measured = evaluate_run(run, on_progress)
    if as_json:
        typer.echo(json.dumps(measured, indent=1))
    else:
        _show_metrics(measured["metrics"], measured["num_targets"])


def _show_metrics(metrics: dict[str, dict[str, dict[str, float]]], num_targets: dict[str, dict[str, int]]) -> None:
    from microlens.tables import metrics_table

    console.print(metrics_table(metrics, num_targets))


@app.command("recommend")
def recommend(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    user: Annotated[int | None, typer.Option(help="A user of the dataset, by id.")] = None,
    history: Annotated[str | None, typer.Option(help="Item ids, oldest first, such as 1,2,3.")] = None,
    add_video: Annotated[
        Path | None, typer.Option(help="Rank this video, which nobody has seen, among the items.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--top", min=1, help="How many.")] = 10,
) -> None:
    """Recommend items to a user or for a history, with titles."""
    from microlens.recommend import recommend as recommend_items
    from microlens.tables import recommendation_table

    console.print(recommendation_table(recommend_items(run, user=user, history=history, add_video=add_video, k=k)))


@app.command("report")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders on the same data and protocol.")],
    html: Annotated[Path | None, typer.Option(help="Also write a self-contained page.")] = None,
) -> None:
    """Compare runs: print their table, and write a page with curves, groups and recommendations as pictures."""
    from microlens.page.comparison import read_runs
    from microlens.tables import comparison_table

    console.print(comparison_table({run.name: run.report for run in read_runs(runs)}))
    if html is not None:
        from microlens.page import write_page

        write_page(html, runs)
        console.print(f"{html} is written; open it in a browser.")


@app.command("bench")
def bench(
    table: Annotated[str, typer.Argument(help="A table's name (an unknown one lists them), or all.")],
    dataset: Annotated[
        str | None, typer.Option(help="A prepared dataset, or its name in datasets/; demo and smoke are made.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="For transfer: the dataset that rows are first trained on.")
    ] = None,
    configs: Annotated[Path | None, typer.Option(help="The rows' configurations; configs/DATASET by default.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where runs and tables go; runs/bench/DATASET by default.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="A row wanted, by its or its configuration's name.")] = None,
    against: Annotated[str | None, typer.Option(help="The row that all others are compared with.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=10, help="Runs of each row.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Rows trained at once.")] = 1,
    budget: Annotated[float | None, typer.Option(help="Minutes after which to stop; start again to go on.")] = None,
    html: Annotated[bool, typer.Option("--html", help="Write a page that needs no network, too.")] = False,
    protocol: Annotated[
        str, typer.Option(help="What all rows follow: paper, whole-histories, random, global-time or cold-items.")
    ] = "paper",
    mix: Annotated[bool, typer.Option("--mix", help="Let different protocols into one table.")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="One epoch of small vectors, to see that everything works.")
    ] = False,
) -> None:
    """Train the rows of a table that are missing, each in its own process, and print the table beside the paper's."""
    from microlens.bench import Choices
    from microlens.run_tables import run_tables

    if dataset is None and not smoke:
        raise InputError("say what to train on with --dataset, or try --smoke.")
    if budget is not None and budget <= 0:
        raise InputError(f"--budget is {budget:g}; it takes minutes above 0.")
    choices = Choices(
        configs=configs or (Path("configs/demo") if dataset in {None, "demo", "smoke"} else None),
        output=output,
        only=tuple(only or ()),
        against=against,
        seeds=seeds,
        protocol=protocol,
        smoke=smoke,
        mix=mix,
    )
    run_tables(
        table,
        dataset or "smoke",
        choices,
        console=console,
        jobs=jobs,
        minutes=budget,
        source=source,
        page=html,
    )


@app.command("features")
def features(
    encoder: Annotated[str, typer.Option(help="An encoder that sees content; see: microlens list encoders")],
    dataset: Annotated[Path | None, typer.Argument(help="A prepared dataset.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="random, default (the official) or a file; if not given, as in a run; official to classify."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides random weights.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; features in the dataset by default.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="key=value, an option of the encoder.")] = None,
    missing: Annotated[
        Literal["error", "skip"], typer.Option(help="What to do about items without the content.")
    ] = "error",
    classify: Annotated[
        Path | None,
        typer.Option(help="In place of a dataset: a video, or a folder of CLASS/FILE to measure accuracy on."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write frozen features of every item of a dataset; or, with --classify, see whether weights know their classes."""
    if (dataset is None) == (classify is None):
        raise InputError("say what to look at: either a DATASET or --classify PATH.")
    if classify is not None:
        if out or option or missing == "skip":
            raise InputError("--out, --option and --missing go with a DATASET; leave them out with --classify.")
        _classify(classify, encoder, weights or "default", seed, as_json=as_json)
        return
    assert dataset is not None
    from microlens.feature_files import read_options, write_features

    with _bar("items") as on_progress:
        files = write_features(
            dataset,
            encoder,
            weights=weights,
            seed=seed,
            options=read_options(option or []),
            out=out,
            missing=missing,
            on_progress=on_progress,
        )
    if as_json:
        typer.echo(json.dumps({"path": str(files.path), **files.provenance}, indent=1))
        return
    made = files.provenance
    console.print(f"{files.path}: {made['num_items']:,} items, {made['feature_dim']:,} numbers each")
    console.print(f"weights: {made['weights']}")
    for kind, items in made["left_out"].items():
        more = ", ..." if len(items) > 20 else ""
        console.print(f"left out: {len(items):,} items without {kind} ({', '.join(map(str, items[:20]))}{more})")
    console.print(f"Use them in a configuration:\n\n{files.config}")


def _classify(path: Path, encoder: str, weights: str, seed: int, *, as_json: bool) -> None:
    from microlens.classify import Classifier, classification_accuracy, classify_video

    classifier = Classifier(encoder, weights, seed)
    if path.is_dir():
        with _bar("videos") as on_progress:
            found = classification_accuracy(classifier, path, on_progress)
    else:
        found = classify_video(classifier, path)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    if weights == "random":
        console.print("weights: random, so what follows is chance")
    for fault in found["faults"]:
        fate = "counted" if fault["counted"] else "not counted"
        console.print(f"fault: {fault['file']}, {fate}: {fault['fault']}")
    for entry in found.get("top", []):
        console.print(f"{100 * entry['probability']:6.2f} %  {entry['class']}")
    if path.is_dir():
        console.print(
            f"{found['videos']:,} videos of {found['classes']:,} classes: ACC@1 {100 * found['ACC@1']:.2f} %, "
            f"ACC@5 {100 * found['ACC@5']:.2f} %"
        )


@app.command("list")
def list_names(
    what: Annotated[Literal["models", "encoders", "datasets"], typer.Argument(help="What to list.")],
    cost: Annotated[bool, typer.Option("--cost", help="What encoders cost, in place of their options.")] = False,
    frames: Annotated[int, typer.Option(min=1, help="With --cost: frames a clip.")] = 5,
    size: Annotated[int, typer.Option(min=1, help="With --cost: height and width of a frame.")] = 224,
    measure: Annotated[
        bool, typer.Option("--measure", help="With --cost: time training steps as well; takes minutes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --cost: print JSON.")] = False,
) -> None:
    """List models or encoders with their options, or the prepared datasets in ./datasets."""
    from microlens.tables import dataset_table, option_table

    if cost and what == "encoders":
        _show_costs((frames, size), measure=measure, as_json=as_json)
        return
    if cost or measure or as_json:
        raise InputError("--measure and --json go with --cost, and --cost with: microlens list encoders")
    if what == "datasets":
        console.print(dataset_table(Path("datasets")))
        return
    from microlens.encoders import ENCODERS
    from microlens.recommenders import RECOMMENDERS

    console.print(option_table(RECOMMENDERS if what == "models" else ENCODERS))


def _show_costs(clip_shape: tuple[int, int], *, measure: bool, as_json: bool) -> None:
    from dataclasses import asdict

    from microlens.cost import all_costs
    from microlens.tables import cost_table

    with _bar("encoders") as on_progress:
        costs, notes = all_costs(clip_shape, measured=measure, on_progress=on_progress)
    if as_json:
        frames, size = clip_shape
        listed = {"frames": frames, "size": size, "encoders": [asdict(cost) for cost in costs], "notes": notes}
        typer.echo(json.dumps(listed, indent=1))
        return
    console.print(cost_table(costs))
    for name, note in notes.items():
        console.print(f"{name} is not listed: {note}")
