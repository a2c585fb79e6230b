"""The command that trains the runs of a table and prints it."""

from pathlib import Path
from typing import Annotated

import typer

from microlens.cli.output import console
from microlens.errors import InputError


def bench(
    table: Annotated[str, typer.Argument(help="Name of a table (an unknown name lists all), or all.")],
    dataset: Annotated[
        str | None, typer.Option(help="A prepared dataset, or its name in datasets/; demo and smoke are created.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="For the table transfer: dataset to pretrain on.")] = None,
    configs: Annotated[
        Path | None, typer.Option(help="Folder of configurations, one per row; configs/DATASET by default.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of runs and tables; runs/bench/DATASET by default.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Train only this row, given by its name or its configuration's; writes TABLE-some-rows."),
    ] = None,
    against: Annotated[str | None, typer.Option(help="Baseline row of the comparisons.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=10, help="Number of runs per row.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Number of rows trained in parallel.")] = 1,
    budget: Annotated[float | None, typer.Option(help="Time limit in minutes; a restart resumes.")] = None,
    html: Annotated[bool, typer.Option("--html", help="Also write a self-contained HTML page.")] = False,
    protocol: Annotated[
        str,
        typer.Option(
            help="Protocol of all rows: paper, whole-histories, random, recbole, global-time, cold-items, given or "
            "given-recbole."
        ),
    ] = "paper",
    mix: Annotated[bool, typer.Option("--mix", help="Allow different protocols in one table.")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Train one epoch with small vectors, as a quick check; writes TABLE-smoke.")
    ] = False,
) -> None:
    """Train the missing rows of a table, each in its own process, and print the table with the paper's numbers."""
    from microlens.bench import Choices, check_table
    from microlens.cli.run_tables import run_tables

    if table != "all":
        check_table(table)
    if dataset is None and not smoke:
        raise InputError("no dataset given; choose one with --dataset, or try --smoke.")
    if budget is not None and not budget > 0:  # also rejects NaN
        raise InputError(f"--budget is {budget:g}; it must be a number of minutes above 0.")
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
