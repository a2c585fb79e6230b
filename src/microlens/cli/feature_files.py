"""Commands on feature files: compare two, adopt one that has no ids, and quantise one into codes."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from microlens.cli.output import bar, console, json_text
from microlens.seeds import LARGEST_SEED

if TYPE_CHECKING:
    from microlens.quantization.report import CodeReport


def diff(
    a: Annotated[Path, typer.Argument(help="A feature file, .npy, with .ids.npy next to it or without.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell whether two feature files can be from the same encoder: order of rows, scale, rotation, linear map."""
    from microlens.verification.feature_files import compare_features

    found = compare_features(a, b)
    if as_json:
        typer.echo(json_text(asdict(found)))
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


def codes(
    features: Annotated[Path, typer.Argument(help="A feature file, .npy, with .ids.npy next to it.")],
    method: Annotated[
        Literal["kmeans", "balanced-kmeans", "rqvae", "random"],
        typer.Option(help="How codes are chosen; random is the control."),
    ] = "balanced-kmeans",
    levels: Annotated[int, typer.Option(min=1, help="Codes of an item, besides the last, which breaks ties.")] = 3,
    codes: Annotated[int, typer.Option(min=2, help="Codes that a level has.")] = 256,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of an RQ-VAE over the features.")] = 60,
    dataset: Annotated[
        Path | None, typer.Option(help="A prepared dataset, to report on its items without training interactions.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; that of the features by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Quantise features into a few codes an item, for the model tiger, and report on collisions and use."""
    from microlens.runs.code_files import write_codes

    with bar("epochs" if method == "rqvae" else "levels") as on_progress:
        files = write_codes(
            features,
            method=method,
            levels=levels,
            codes=codes,
            seed=seed,
            epochs=epochs,
            dataset=dataset,
            out=out,
            on_progress=on_progress,
        )
    if as_json:
        typer.echo(json_text({"path": str(files.path), **files.provenance}))
        return
    console.print(f"{files.path}: {files.report.num_items:,} items, {levels} codes of {codes:,}")
    _print_report(files.report)
    console.print(f"Use them in a configuration:\n\n{files.config}")


def _print_report(report: "CodeReport") -> None:
    import polars as pl

    from microlens.cli.terminal_tables import frame_table

    console.print(
        f"{100 * report.colliding:.1f} % of items share all codes with another item, at most {report.largest_group:,} "
        f"items with each other; codes leave {100 * report.error:.1f} % of the variance"
    )
    table = pl.DataFrame(
        [
            {"level": number, "used": use.used, "perplexity": use.perplexity, "most items": use.largest}
            for number, use in enumerate(report.levels, 1)
        ]
    )
    if (new := report.new_items) is not None:
        console.print(f"{new.num_items:,} items without training interactions, of which known items have, in %:")
        table = table.with_columns(
            pl.Series("this code", new.known_codes) * 100, pl.Series("codes up to here", new.known_prefixes) * 100
        )
    console.print(frame_table(table))
