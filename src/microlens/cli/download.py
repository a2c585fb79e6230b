"""Commands that download official files and take up those that were fetched by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microlens.cli.engine_options import EngineOption, RayAddressOption
from microlens.cli.output import bar, console
from microlens.errors import InputError
from microlens.seeds import LARGEST_SEED

if TYPE_CHECKING:
    from rich.progress import TaskID

    from microlens.download.progress import OnProgress
    from microlens.download.release import Step
    from microlens.download.work import Download

_SHOWN = 20
_INCOMPLETE = 1


def download(
    name: Annotated[str, typer.Argument(help="50k, 100k, 1m or 1m-mmctr.")],
    out: Annotated[
        str, typer.Argument(help="Output folder of the release, or its address, such as s3://bucket/folder.")
    ],
    only: Annotated[
        str | None, typer.Option(help="Kinds of files, with commas between; by default all that prepare reads.")
    ] = None,
    items: Annotated[
        str | None, typer.Option(help="Items of covers and videos: a number of random ones, or a file of ids.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the random items.")] = 0,
    mirror: Annotated[str | None, typer.Option(help="Base address in place of the official one.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Number of files at a time.")] = 8,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be fetched, and its size.")] = False,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
) -> None:
    """Download an official set as a release; a restart resumes. Exit status 1 if anything is missing."""
    from microlens.download.release import download_release, plan_release
    from microlens.engines.choice import choose_engine
    from microlens.files.addresses import is_address

    kinds = None if only is None else [kind.strip() for kind in only.split(",")]
    chosen = int(items) if items and items.isdecimal() else Path(items) if items else None
    if dry_run:
        if is_address(out):
            raise InputError("--dry-run needs a folder; name one in place of the address.")
        _show_plan(plan_release(name, out, only=kinds, items=chosen, seed=seed, mirror=mirror, jobs=jobs))
        return
    with _bars() as on_progress:
        done = download_release(
            name,
            out,
            only=kinds,
            items=chosen,
            seed=seed,
            mirror=mirror,
            jobs=jobs,
            engine=choose_engine(engine, ray_address),
            on_progress=on_progress,
        )
    _show(done)


def adopt(
    folder: Annotated[Path, typer.Argument(help="A folder with files of MicroLens, whatever they are called.")],
    out: Annotated[Path, typer.Argument(help="Output folder of the release.")],
    name: Annotated[
        str | None, typer.Option("--set", help="50k, 100k, 1m or 1m-mmctr; told by the files by default.")
    ] = None,
) -> None:
    """Make a release of files that were fetched by hand; they are recognised by their content."""
    from microlens.download.adopt import adopt_release

    with bar("files") as on_progress:
        adoption = adopt_release(folder, out, name=name, on_progress=on_progress)
    console.print(f"{out}: {len(adoption.placed):,} files of {adoption.name}, and {adoption.present:,} were there")
    _show_first([f"left out: {source} ({why})" for source, why in sorted(adoption.left_out.items())])
    console.print(f"Next, for the rest: microlens data download {adoption.name} {out}")


@contextmanager
def _bars() -> "Iterator[OnProgress]":
    """Show the bytes of all files and of those in flight."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from microlens.download.progress import Progress as Counts

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}", markup=False), *columns, console=console, transient=True) as bars:
        everything = bars.add_task("files", total=None)
        tasks: dict[str, TaskID] = {}

        def show(counts: Counts) -> None:
            total = counts.size if counts.size >= counts.size_done else None
            files = f"{counts.files_done:,} of {counts.files:,} files"
            bars.update(everything, description=files, completed=counts.size_done, total=total)
            for path in tasks.keys() - counts.in_flight.keys():
                bars.remove_task(tasks.pop(path))
            for path, (done, size) in counts.in_flight.items():
                if path not in tasks:
                    tasks[path] = bars.add_task(path)
                bars.update(tasks[path], completed=done, total=size)

        yield show


def _show_plan(steps: "list[Step]") -> None:
    for step in steps:
        size = "unknown size" if step.size is None else _bytes(step.size)
        there = f", {step.present:,} of them there" if step.present else ""
        console.print(f"{step.kind}: {step.path}, {step.files:,} file{'s' * (step.files != 1)}{there}, {size} to fetch")
    known = sum(step.size or 0 for step in steps)
    unknown = " and what has no known size" if any(step.size is None for step in steps) else ""
    console.print(f"in all: {_bytes(known)}{unknown}")


def _show(done: "Download") -> None:
    from microlens.download.state import FOLDER
    from microlens.download.work import MISSING

    console.print(
        f"{done.folder}: {len(done.fetched):,} files fetched ({_bytes(done.size)}), {done.present:,} were there"
    )
    _show_first([f"note: {note}" for note in done.notes])
    _show_first([f"missing: {path} ({why})" for path, why in sorted(done.missing.items())])
    if done.missing:
        listed = f"{done.folder}/{FOLDER}/{MISSING}"
        console.print(f"{len(done.missing):,} files are missing (listed in {listed}). Next: the same command again")
        raise typer.Exit(_INCOMPLETE)
    console.print(f"Next: microlens data prepare {done.folder} DATASET")


def _show_first(lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        console.print(line)
    if len(lines) > _SHOWN:
        console.print(f"... and {len(lines) - _SHOWN:,} more")


def _bytes(number: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number:,} bytes"
