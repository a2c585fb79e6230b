"""The command that trains and prints tables of runs."""

from pathlib import Path
from typing import Annotated

import typer

from microlens.cli.output import console
from microlens.errors import InputError


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
    from microlens.cli.run_tables import run_tables

    if dataset is None and not smoke:
        raise InputError("say what to train on with --dataset, or try --smoke.")
    if budget is not None and not budget > 0:  # which NaN is not
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
