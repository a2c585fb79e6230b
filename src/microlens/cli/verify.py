"""The command that verifies a release."""

from pathlib import Path
from typing import Annotated

import typer

from microlens.cli.output import bar, console
from microlens.errors import InputError

FAULTS_FOUND = 1


def verify(
    release: Annotated[Path, typer.Argument(help="A folder in the official layout, or a file of interactions.")],
    set_name: Annotated[
        str | None, typer.Option("--set", help="The published set it is to be; by default the one with its counts.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="The original, a release or its pairs file, to find permuted ids.")
    ] = None,
    write_mapping: Annotated[
        Path | None, typer.Option(help="Write a csv of the ids of the copy and those of the original; needs --against.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report as JSON, with every case.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as a page with pictures.")] = None,
    state: Annotated[
        Path | None, typer.Option(help="Folder that remembers checked files; RELEASE.verify by default.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Number of decoding processes; one per core by default.")
    ] = None,
) -> None:
    """Check a release: published or not, every file decoded, tables, duplicates. Exit status 1 if there are faults."""
    if write_mapping is not None and against is None:
        raise InputError("--write-mapping needs the original: --against PATH.")
    from microlens.verification.verify import verify as verify_release

    with bar("media files") as on_progress:
        found = verify_release(
            release, set_name=set_name, against=against, state=state, jobs=jobs, on_progress=on_progress
        )
    console.print(found.text())
    if json_file is not None:
        found.write_json(json_file)
        console.print(f"{json_file} has every case.")
    if html is not None:
        from microlens.verification.page import write_page

        write_page(html, found)
        console.print(f"{html} shows the worst.")
    if write_mapping is not None and found.identity.mapping is not None:
        for path in found.identity.mapping.write(write_mapping):
            console.print(f"{path} maps the ids of the copy to those of the original.")
    if found.num_faults:
        raise typer.Exit(FAULTS_FOUND)
    console.print(f"Next: microlens data prepare {release} DATASET")
