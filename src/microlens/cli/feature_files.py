"""Commands on feature files: compare two, and adopt one that has no ids."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from microlens.cli.output import console


def diff(
    a: Annotated[Path, typer.Argument(help="A feature file, .npy, with .ids.npy next to it or without.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell whether two feature files can be from the same encoder: order of rows, scale, rotation, linear map."""
    from microlens.verification.feature_files import compare_features

    found = compare_features(a, b)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
        return
    console.print(f"{found.verdict}.")
    console.print(
        f"A {a}: {found.shapes[0]}; B {b}: {found.shapes[1]}; {found.rows:,} rows paired by {found.aligned_by}"
    )
    for name, value in found.numbers.items():
        console.print(f"{name:>11}  {'not defined' if value is None else f'{value:.6g}'}")


def adopt(
    source: Annotated[Path, typer.Argument(help="A matrix, .npy, whose rows are in the order of item ids.")],
    out: Annotated[Path, typer.Argument(help="The .npy file to write, with .ids.npy next to it.")],
    first_id: Annotated[int, typer.Option(help="Item id of the first row.")] = 1,
    mapping: Annotated[
        Path | None, typer.Option(help="Csv of data verify --write-mapping, for features of a copy with other ids.")
    ] = None,
) -> None:
    """Give item ids to features that have none, such as the official ones, whose row is the item id minus 1."""
    from microlens.verification.feature_files import adopt_features

    rows = adopt_features(source, out, first_id=first_id, mapping=mapping)
    console.print(
        f'{out}: {rows:,} items. Next: microlens train CONFIG, with [encoder] name = "features", path = "{out}"'
    )
