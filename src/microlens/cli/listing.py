"""The command ``list``: recommenders and encoders with their options and costs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from microlens.cli.output import bar, console, json_text
from microlens.errors import InputError


def list_names(
    what: Annotated[Literal["models", "encoders", "datasets"], typer.Argument(help="What to list.")],
    cost: Annotated[bool, typer.Option("--cost", help="List the cost of encoders instead of their options.")] = False,
    frames: Annotated[int, typer.Option(min=1, max=1024, help="With --cost: frames per clip.")] = 5,
    size: Annotated[
        int, typer.Option(min=1, max=4096, help="With --cost: height and width of a frame in pixels.")
    ] = 224,
    measure: Annotated[
        bool, typer.Option("--measure", help="With --cost: also time training steps; takes minutes.")
    ] = False,
    encoder: Annotated[str | None, typer.Option(help="With --cost: list this encoder only.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="With --encoder: its option, as key=value, such as model=FOLDER.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --cost: print JSON.")] = False,
) -> None:
    """List models or encoders with their options, or the prepared datasets in ./datasets."""
    from microlens.cli.option_rows import option_rows
    from microlens.cli.terminal_tables import dataset_table, option_table

    if cost and what == "encoders":
        if encoder is None and option:
            raise InputError("--option is one of an encoder; name it with --encoder.")
        if encoder is not None and measure:
            raise InputError("--measure is for all encoders; leave out --encoder.")
        chosen = None if encoder is None else (encoder, option or [])
        _show_costs((frames, size), chosen, measure=measure, as_json=as_json)
        return
    if cost or measure or as_json or encoder or option:
        raise InputError("--measure, --encoder and --json need --cost, and --cost needs: microlens list encoders")
    if what == "datasets":
        console.print(dataset_table(Path("datasets")))
        return
    console.print(option_table(option_rows(what)))


def _show_costs(
    clip_shape: tuple[int, int], chosen: tuple[str, list[str]] | None, *, measure: bool, as_json: bool
) -> None:
    """Show the costs of all encoders, or of the ``chosen`` one with its options."""
    from dataclasses import asdict

    from microlens.cli.terminal_tables import cost_table
    from microlens.cost import EncoderCost, all_costs, encoder_cost
    from microlens.runs.feature_files import read_options

    costs: list[EncoderCost]
    notes: dict[str, str] = {}
    if chosen is not None:
        name, assignments = chosen
        costs = [encoder_cost(name, clip_shape, read_options(assignments))]
    else:
        with bar("encoders") as on_progress:
            costs, notes = all_costs(clip_shape, measured=measure, on_progress=on_progress)
    if as_json:
        frames, size = clip_shape
        listed = {"frames": frames, "size": size, "encoders": [asdict(cost) for cost in costs], "notes": notes}
        typer.echo(json_text(listed))
        return
    console.print(cost_table(costs))
    for name, note in notes.items():
        console.print(f"{name} is not listed: {note}")
