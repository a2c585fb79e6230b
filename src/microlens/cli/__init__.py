"""The command line. Each command loads what it needs when it runs, so that help and data commands start at once."""

import errno
import sys

import typer
from rich.console import Console

from microlens.cli import bench, content, data, run_folders, runs
from microlens.cli.output import AS_IT_IS
from microlens.errors import InputError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
data_app = typer.Typer(no_args_is_help=True, help="Make and prepare datasets.")
app.add_typer(data_app, name="data")
data_app.command("synth")(data.synth)
data_app.command("prepare")(data.prepare)
runs_app = typer.Typer(no_args_is_help=True, help="Look after run folders.")
app.add_typer(runs_app, name="runs")
runs_app.command("check")(run_folders.check)
runs_app.command("adopt")(run_folders.adopt)
app.command("train")(runs.train)
app.command("tune")(runs.tune)
app.command("evaluate")(runs.evaluate)
app.command("recommend")(runs.recommend)
app.command("report")(runs.report)
app.command("bench")(bench.bench)
app.command("features")(content.features)
app.command("list")(content.list_names)

_INTERRUPTED = 130
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
    Console(stderr=True, **AS_IT_IS).print(f"microlens: {sentence}")
    sys.exit(status)
