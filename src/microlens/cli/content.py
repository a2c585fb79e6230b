"""Commands on encoders: features and costs; lists of models, encoders and datasets."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from microlens.cli.engine_options import EngineOption, RayAddressOption
from microlens.cli.output import bar, console, json_text
from microlens.errors import InputError
from microlens.seeds import LARGEST_SEED


def features(
    encoder: Annotated[
        str, typer.Option(help="A content encoder, see: microlens list encoders; or ocr, for texts in pictures.")
    ],
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
    layers: Annotated[
        str | None,
        typer.Option(help="Write the outputs of the last so many layers, or of all with the embeddings, not of one."),
    ] = None,
    per_frame: Annotated[
        bool, typer.Option("--per-frame", help="Write a vector for each frame of a clip, or each window of sound.")
    ] = False,
    classify: Annotated[
        Path | None,
        typer.Option(help="Instead of a dataset: a video to classify, or a folder of CLASS/FILE to measure accuracy."),
    ] = None,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write frozen features of every item of a dataset; or, with --classify, verify weights by classifying videos."""
    if encoder == "ocr":
        if dataset is None or weights or seed or classify or missing == "skip" or layers or per_frame:
            raise InputError("ocr takes a DATASET, --out and --option; leave out the other options.")
        _read_pictures(dataset, out, option or [], as_json=as_json)
        return
    if (dataset is None) == (classify is None):
        raise InputError("give either a DATASET or --classify PATH.")
    if classify is not None:
        if out or option or missing == "skip" or layers or per_frame:
            raise InputError("--out, --option, --missing, --layers and --per-frame need a DATASET, not --classify.")
        _classify(classify, encoder, weights or "default", seed, as_json=as_json)
        return
    assert dataset is not None
    from microlens.engines.choice import choose_engine
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
            layers=_layers(layers),
            per_frame=per_frame,
            engine=choose_engine(engine, ray_address),
            on_progress=on_progress,
        )
    if as_json:
        typer.echo(json_text({"path": str(files.path), **files.provenance}))
        return
    made = files.provenance
    several = "".join(f"{count:,} x " for count in files.shape[1:-1])
    console.print(f"{files.path}: {made['num_items']:,} items, {several}{made['feature_dim']:,} values each")
    console.print(f"weights: {made['weights']}")
    for kind, items in made["left_out"].items():
        more = ", ..." if len(items) > 20 else ""
        console.print(f"left out: {len(items):,} items without {kind} ({', '.join(map(str, items[:20]))}{more})")
    console.print(f"Use them in a configuration:\n\n{files.config}")


def _layers(chosen: str | None) -> int | Literal["all"] | None:
    if chosen is None or chosen == "all":
        return chosen  # type: ignore[return-value]  # mypy does not narrow a string to a literal
    if not chosen.isdecimal():
        raise InputError(f"--layers is {chosen}; accepted: all, or a number from 1.")
    return int(chosen)


def _read_pictures(dataset: Path, out: Path | None, assignments: list[str], *, as_json: bool) -> None:
    from microlens.building import build
    from microlens.runs.feature_files import read_options
    from microlens.runs.picture_texts import write_picture_texts

    options = read_options(assignments)
    with bar("items") as on_progress:
        given = {"folder": dataset, "out": out, "on_progress": on_progress}
        texts = build(write_picture_texts, options, given, "option")
    made = texts.provenance
    if as_json:
        typer.echo(json.dumps({"path": str(texts.path), **made}, indent=1, ensure_ascii=False))
        return
    read = f"{made['num_lines']:,} lines of text in {made['items_with_text']:,} of {made['num_items']:,} items"
    console.print(f"{texts.path}: {read}")
    for fault in made["faults"][:20]:
        console.print(f"fault: item {fault['item']}: {fault['fault']}")
    if len(made["faults"]) > 20:
        console.print(f"... and {len(made['faults']) - 20:,} more faults in {texts.path.with_suffix('.json')}")
    console.print(f"Use them in a configuration:\n\n{texts.config}")


def _classify(path: Path, encoder: str, weights: str, seed: int, *, as_json: bool) -> None:
    from microlens.runs.classify import Classifier, classification_accuracy, classify_video

    classifier = Classifier(encoder, weights, seed)
    if path.is_dir():
        with bar("videos") as on_progress:
            found = classification_accuracy(classifier, path, on_progress)
    else:
        found = classify_video(classifier, path)
    if as_json:
        typer.echo(json_text(found))
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
