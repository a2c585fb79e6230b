"""Commands on run folders: verify the checksums of their files."""

from pathlib import Path
from typing import Annotated

import typer

from microlens.cli.output import console, json_text
from microlens.runs.terminal import Console

Folders = Annotated[list[Path], typer.Argument(help="Run folders, or folders that contain runs.")]
WRONG = 2


def check(folders: Folders, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Verify the files of runs against the SHA-256 in their manifests, and reports against their ranks."""
    from microlens.evaluation.report import check_run

    found = {run: check_run(run) for run in _runs(folders)}
    if as_json:
        table = {str(run): {"files": files, "problems": problems} for run, (files, problems) in found.items()}
        typer.echo(json_text(table))
    else:
        for run, (files, _) in found.items():
            console.print(str(run))
            for name, state in files.items():
                console.print(f"  {state:<10}  {name}")
    wrong = [problem for _, problems in found.values() for problem in problems]
    for problem in wrong:
        Console(stderr=True).print(f"microlens: {problem}")
    if wrong:
        raise typer.Exit(WRONG)


def adopt(folders: Folders) -> None:
    """Write manifests for runs of an earlier version, which have none, so that their files are checked from then on."""
    from microlens.evaluation.report import adopt_run
    from microlens.files.run_manifest import MANIFEST

    for run in _runs(folders):
        if not (run / MANIFEST).exists():
            adopt_run(run)
            console.print(f"{run / MANIFEST} is written.")


def _runs(folders: list[Path]) -> list[Path]:
    from microlens.files.run_manifest import find_runs

    return list(dict.fromkeys(run for folder in folders for run in find_runs(folder)))
