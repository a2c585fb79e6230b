"""Commands on encoders: features and costs; lists of models, encoders and datasets."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from microlens.cli.output import LARGEST_SEED, bar, console
from microlens.errors import InputError


def features(
    encoder: Annotated[str, typer.Option(help="A content encoder; see: microlens list encoders")],
    dataset: Annotated[Path | None, typer.Argument(help="A prepared dataset.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="random, default (official) or a file; if omitted, as in a run, or official with --classify."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of random weights.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Output folder; features in the dataset by default.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Option of the encoder, as key=value.")] = None,
    missing: Annotated[
        Literal["error", "skip"], typer.Option(help="Treat items without the content as an error, or skip them.")
    ] = "error",
    classify: Annotated[
        Path | None,
        typer.Option(help="Instead of a dataset: a video to classify, or a folder of CLASS/FILE to measure accuracy."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write frozen features of every item of a dataset; or, with --classify, verify weights by classifying videos."""
    if (dataset is None) == (classify is None):
        raise InputError("give either a DATASET or --classify PATH.")
    if classify is not None:
        if out or option or missing == "skip":
            raise InputError("--out, --option and --missing need a DATASET; leave them out with --classify.")
        _classify(classify, encoder, weights or "default", seed, as_json=as_json)
        return
    assert dataset is not None
    from microlens.runs.feature_files import read_options, write_features

    with bar("items") as on_progress:
        files = write_features(
            dataset,
            encoder,
            weights=weights,
            seed=seed,
            options=read_options(option or []),
            out=out,
            missing=missing,
            on_progress=on_progress,
        )
    if as_json:
        typer.echo(json.dumps({"path": str(files.path), **files.provenance}, indent=1))
        return
    made = files.provenance
    console.print(f"{files.path}: {made['num_items']:,} items, {made['feature_dim']:,} values each")
    console.print(f"weights: {made['weights']}")
    for kind, items in made["left_out"].items():
        more = ", ..." if len(items) > 20 else ""
        console.print(f"left out: {len(items):,} items without {kind} ({', '.join(map(str, items[:20]))}{more})")
    console.print(f"Use them in a configuration:\n\n{files.config}")


def _classify(path: Path, encoder: str, weights: str, seed: int, *, as_json: bool) -> None:
    from microlens.runs.classify import Classifier, classification_accuracy, classify_video

    classifier = Classifier(encoder, weights, seed)
    if path.is_dir():
        with bar("videos") as on_progress:
            found = classification_accuracy(classifier, path, on_progress)
    else:
        found = classify_video(classifier, path)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    if weights == "random":
        console.print("weights: random, so the classes below are chance")
    for fault in found["faults"]:
        fate = "counted" if fault["counted"] else "not counted"
        console.print(f"fault: {fault['file']}, {fate}: {fault['fault']}")
    for entry in found.get("top", []):
        console.print(f"{100 * entry['probability']:6.2f} %  {entry['class']}")
    if path.is_dir():
        console.print(
            f"{found['videos']:,} videos of {found['classes']:,} classes: ACC@1 {100 * found['ACC@1']:.2f} %, "
            f"ACC@5 {100 * found['ACC@5']:.2f} %"
        )


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
    as_json: Annotated[bool, typer.Option("--json", help="With --cost: print JSON.")] = False,
) -> None:
    """List models or encoders with their options, or the prepared datasets in ./datasets."""
    from microlens.cli.terminal_tables import dataset_table, option_table

    if cost and what == "encoders":
        _show_costs((frames, size), measure=measure, as_json=as_json)
        return
    if cost or measure or as_json:
        raise InputError("--measure and --json need --cost, and --cost needs: microlens list encoders")
    if what == "datasets":
        console.print(dataset_table(Path("datasets")))
        return
    from microlens.encoders import ENCODER_REGISTRY
    from microlens.recommenders import RECOMMENDER_REGISTRY

    console.print(option_table(RECOMMENDER_REGISTRY if what == "models" else ENCODER_REGISTRY))


def _show_costs(clip_shape: tuple[int, int], *, measure: bool, as_json: bool) -> None:
    from dataclasses import asdict

    from microlens.cli.terminal_tables import cost_table
    from microlens.cost import all_costs

    with bar("encoders") as on_progress:
        costs, notes = all_costs(clip_shape, measured=measure, on_progress=on_progress)
    if as_json:
        frames, size = clip_shape
        listed = {"frames": frames, "size": size, "encoders": [asdict(cost) for cost in costs], "notes": notes}
        typer.echo(json.dumps(listed, indent=1))
        return
    console.print(cost_table(costs))
    for name, note in notes.items():
        console.print(f"{name} is not listed: {note}")
