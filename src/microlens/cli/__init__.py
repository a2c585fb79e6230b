"""The command line. Commands import what they need when they run, so that help and data commands start quickly."""

import gc
import re
import sys
from typing import Any, NoReturn

import typer

from microlens.cli import (
    bench,
    content,
    data,
    download,
    feature_files,
    feed,
    listing,
    run_folders,
    runs,
    stats,
    studies,
    subsets,
    verify,
)
from microlens.cli.default_command import group_with_default
from microlens.errors import one_line, sentence_of
from microlens.runs.terminal import Console, nobody_reads, replace_what_cannot_be_encoded, stop_printing

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
data_app = typer.Typer(no_args_is_help=True, help="Download, make, convert, filter, sample and prepare datasets.")
app.add_typer(data_app, name="data")
data_app.command("download")(download.download)
data_app.command("adopt")(download.adopt)
data_app.command("synth")(data.synth)
data_app.command("convert")(data.convert)
data_app.command("filter")(subsets.filter_release)
data_app.command("sample")(subsets.sample_release)
data_app.command("prepare")(data.prepare)
data_app.command("web")(data.web)
data_app.command("import-lmdb")(data.import_lmdb)
data_app.command("export-lmdb")(data.export_lmdb)
data_app.command("from-events")(feed.from_events)
data_app.command("verify")(verify.verify)
data_app.command("stats")(stats.stats)
runs_app = typer.Typer(no_args_is_help=True, help="Check and maintain run folders.")
app.add_typer(runs_app, name="runs")
runs_app.command("check")(run_folders.check)
runs_app.command("adopt")(run_folders.adopt)
feed_app = typer.Typer(
    cls=group_with_default("serve"), no_args_is_help=True, help="Serve a feed; microlens feed RUN serves."
)
app.add_typer(feed_app, name="feed")
feed_app.command("serve")(feed.serve)
feed_app.command("simulate")(feed.simulate)
feed_app.command("report")(feed.report)
feed_app.command("participants")(studies.participants)
feed_app.command("answers")(studies.answers)
app.command("train")(runs.train)
app.command("tune")(runs.tune)
app.command("evaluate")(runs.evaluate)
app.command("recommend")(runs.recommend)
app.command("similar")(runs.similar)
app.command("vectors")(runs.vectors)
app.command("compare")(runs.compare)
app.command("new-items")(runs.new_items)
app.command("report")(runs.report)
app.command("bench")(bench.bench)
features_app = typer.Typer(
    cls=group_with_default("extract"),
    help="Compute, compare, adopt and quantise frozen features; without a command: extract.",
)
app.add_typer(features_app, name="features")
features_app.command("extract")(content.features)
features_app.command("diff")(feature_files.diff)
features_app.command("adopt")(feature_files.adopt)
features_app.command("codes")(feature_files.codes)
app.command("list")(listing.list_names)

_INTERRUPTED = 130
# With Python's own thresholds, a fifth of a short command's time is spent on garbage collection while it imports.
_GARBAGE = (100_000, 10, 10)
# Arguments of the Python API, as its messages name them, and the corresponding command-line options.
_FLAGS = {
    "fresh=True": "--fresh",
    "dataset=PATH": "--dataset PATH",
    "missing='skip'": "--missing skip",
    "output=FOLDER": "--output FOLDER",
    "configs=FOLDER": "--configs FOLDER",
    "source=DATASET": "--source DATASET",
    "mix=True": "--mix",
    "users=[ID]": "--user ID",
    "start='": "--from '",
    "end='": "--to '",
    "start, end, or a number above 1 for warm, min_length, user_core or item_core": (
        "--from, --to, or a number above 1 for --warm, --min-length, --k-core, --user-core or --item-core"
    ),
}
# click's UsageError, the base class of all errors in arguments; newer versions of typer have a copy of their own.
_UsageError = typer.BadParameter.__bases__[0]


def main() -> None:
    """Run the command line. User errors and system failures end with a one-sentence message and exit status 2."""
    gc.set_threshold(*_GARBAGE)
    replace_what_cannot_be_encoded()
    try:
        _run()
    except KeyboardInterrupt:
        _fail("interrupted; run the same command again to resume.", status=_INTERRUPTED)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and nobody_reads():
            stop_printing()
            sys.exit(1)
        sentence = _usage(error) if isinstance(error, _UsageError) else sentence_of(error)
        if sentence is None:
            raise
        _fail(sentence)


def _run() -> None:
    # Not app(): it hides all broken pipes, including those between processes of a command.
    command = typer.main.get_command(app)
    with command.make_context("microlens", sys.argv[1:]) as context:
        command.invoke(context)
    sys.exit(0)


def _usage(error: Any) -> str:
    context, told = error.ctx, str(error.format_message())
    if context is None:
        return told
    if told == context.get_help():  # a group was called without a command
        typer.echo(told, err=True)
        sys.exit(2)
    return f"{told} (see: {context.command_path} --help)"


def _fail(sentence: str, status: int = 2) -> NoReturn:
    for argument, flag in _FLAGS.items():
        sentence = re.sub(rf"(?<![\w-]){re.escape(argument)}", flag, sentence)
    Console(stderr=True).print(f"microlens: {one_line(sentence)}")
    sys.exit(status)
