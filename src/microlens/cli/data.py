"""Commands that generate, convert and prepare datasets."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from microlens.cli.engine_options import EngineOption, RayAddressOption
from microlens.cli.output import bar, console, size_in_bytes
from microlens.seeds import LARGEST_SEED


def synth(
    out: Annotated[Path, typer.Argument(help="Output folder of the release.")],
    users: Annotated[int, typer.Option(max=100_000_000, help="Number of users.")] = 2000,
    items: Annotated[int, typer.Option(max=10_000_000, help="Number of videos.")] = 400,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of all random numbers.")] = 0,
    interactions_only: Annotated[
        bool,
        typer.Option("--interactions-only", help="Write interactions only, of any number, in the shape of MicroLens."),
    ] = False,
    mean_length: Annotated[
        float, typer.Option(max=1000, help="Mean number of interactions of a user, with --interactions-only.")
    ] = 7.2,
) -> None:
    """Write a synthetic release in the official layout, with encoded videos and a known best recommendation."""
    if interactions_only:
        from microlens.release.synthetic_interactions import write_interactions_only

        with bar("interactions") as on_progress:
            written = write_interactions_only(
                out, users=users, items=items, mean_length=mean_length, seed=seed, on_progress=on_progress
            )
        console.print(f"{out}: {written:,} interactions of {users:,} users. Next: microlens data prepare {out} DATASET")
        return
    from microlens.release.synthetic import write_release

    with bar("videos") as on_progress:
        write_release(out, users=users, items=items, seed=seed, on_progress=on_progress)
    console.print(f"{out}: {users:,} users and {items:,} videos. Next: microlens data prepare {out} DATASET")


def convert(
    source: Annotated[
        Path,
        typer.Argument(help="A release, a prepared dataset, or a dataset in another format."),
    ],
    out: Annotated[Path, typer.Argument(help="Output folder.")],
    source_format: Annotated[
        Literal["mmrec", "recbole", "s3rec", "parquet", "huggingface", "movielens", "release"] | None,
        typer.Option("--format", help="Format of the source; recognised from its files by default."),
    ] = None,
    to: Annotated[
        Literal["official", "official-csv", "official-tsv", "croissant", "recbole", "mmrec", "parquet", "huggingface"],
        typer.Option(help="Format that is written; official is a release, croissant one with Croissant metadata."),
    ] = "official",
) -> None:
    """Write a dataset in another format as a release in the official layout, or a release in another format."""
    from microlens.release.convert import convert as convert_dataset
    from microlens.release.exports import EXPORTS

    done = convert_dataset(source, out, source_format, to=to)
    content = f"{done.users:,} users, {done.items:,} items, {done.titles:,} titles and {done.tags:,} tags"
    console.print(f"{out}: {done.interactions:,} interactions, {content}, converted from {done.format} to {done.to}.")
    for note in done.notes:
        console.print(f"note: {note}")
    if EXPORTS[to].is_release:
        console.print(f"Next: microlens data prepare {out} DATASET")


def prepare(
    release: Annotated[
        str, typer.Argument(help="A folder in the official layout, or its address, such as s3://bucket/folder.")
    ],
    dataset: Annotated[Path, typer.Argument(help="Output folder of the dataset.")],
    frames: Annotated[
        Literal["spread", "middle", "keyframes", "shots"],
        typer.Option(
            help="Frames of a clip: spread over the video, consecutive around its middle, the nearest keyframes, or "
            "of its shots."
        ),
    ] = "spread",
    num_frames: Annotated[int, typer.Option(help="Frames per clip.")] = 5,
    size: Annotated[int, typer.Option(help="Height and width of a frame in pixels.")] = 224,
    crop: Annotated[
        Literal["squash", "center"], typer.Option(help="Squash the whole frame into a square, or crop its center.")
    ] = "squash",
    sample_rate: Annotated[int, typer.Option(help="Sound: samples per second.")] = 16000,
    num_mels: Annotated[int, typer.Option(help="Sound: bands of the log-mel spectrogram.")] = 64,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Number of decoding processes; one per core by default.")
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(
            parser=size_in_bytes,
            metavar="SIZE",
            help="Memory for sorting the interactions, such as 2GB; by default a quarter of what is free.",
        ),
    ] = None,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    shards: Annotated[
        str | None,
        typer.Option(help="Folder or address, such as s3://bucket/shards, that receives and keeps decoded media."),
    ] = None,
) -> None:
    """Check, index and decode a release into a dataset folder; a restart resumes an interrupted preparation."""
    from microlens.data.prepare import prepare as prepare_release
    from microlens.engines.choice import choose_engine
    from microlens.media.clip_settings import ClipSettings
    from microlens.media.decoding import Settings
    from microlens.media.sound import SoundSettings

    settings = Settings(
        clips=ClipSettings(frames=frames, num_frames=num_frames, size=size, crop=crop),
        sound=SoundSettings(sample_rate=sample_rate, num_mels=num_mels),
    )
    prepared = prepare_release(
        release,
        dataset,
        settings,
        workers=workers,
        memory=memory,
        engine=choose_engine(engine, ray_address, workers),
        shards=shards,
        progress=True,
    )
    _show_manifest(dataset, prepared.manifest)


def web(
    release: Annotated[Path, typer.Argument(help="The release that the dataset was prepared from.")],
    dataset: Annotated[Path, typer.Argument(help="A prepared dataset; copies go to its folder web.")],
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Number of encoding processes; one per core by default.")
    ] = None,
) -> None:
    """Write copies of the videos that browsers do not play; a restart resumes an interrupted job."""
    from microlens.data.web_copies import write_web_copies

    with bar("videos") as on_progress:
        copies = write_web_copies(release, dataset, workers=workers, on_progress=on_progress)
    for item, path, fault, written in copies.faults[:20]:
        console.print(f"fault: item {item}, {path.name}, {'copied' if written else 'not copied'}: {fault}")
    if len(copies.faults) > 20:
        console.print(f"... and {len(copies.faults) - 20:,} more faults")
    counts = f"{copies.written:,} copies written, {copies.present:,} were there"
    console.print(f"{copies.folder}: {counts}; {copies.playable:,} videos need none.")
    console.print(f"Next: microlens feed RUN --release {release}")


def _show_manifest(dataset: Path, manifest: dict[str, Any]) -> None:
    counts = manifest["counts"]
    for name, title in (("release", "release"), ("paper_protocol", "paper's protocol")):
        numbers = ", ".join(f"{value:,} {what}" for what, value in counts[name].items())
        console.print(f"{title}: {numbers}")
    console.print(f"stored: {counts['clips']:,} clips, {counts['covers']:,} covers, {counts['sound']:,} sound tracks")
    if counts["out_of_order"]:
        console.print(
            f"sorted: {counts['out_of_order']:,} interactions were listed before an earlier one of the same user"
        )
    for note in manifest.get("notes", []):
        console.print(f"note: {note}")
    for drop in manifest["dropped"]:
        names = [name for name in drop["examples"] if isinstance(name, str)]
        examples = f": {', '.join(names[:3])}{', ...' if drop['count'] > 3 else ''}" if names else ""
        console.print(f"dropped: {drop['count']:,} {drop['what']} ({drop['why']}){examples}")
    faults = manifest["faults"]
    for fault in faults[:20]:
        fate = "lost" if fault["lost"] else "kept"
        console.print(f"fault: item {fault['item']}, {fault['file']}, {fault['kind']} {fate}: {fault['fault']}")
    if len(faults) > 20:
        console.print(f"... and {len(faults) - 20:,} more faults in {dataset / 'manifest.json'}")
    console.print(f'{dataset} is ready. Next: microlens train CONFIG, with dataset = "{dataset}"')


def import_lmdb(
    lmdb: Annotated[Path, typer.Argument(help="An LMDB file of covers or video frames, of the original code.")],
    release: Annotated[Path, typer.Argument(help="Folder of the release that gets the files; it may be new.")],
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Number of processes; one per core by default.")
    ] = None,
) -> None:
    """Write the covers or video frames in an LMDB file of the original code as media files of a release."""
    from microlens.release.import_lmdb import PLACES
    from microlens.release.import_lmdb import import_lmdb as import_file

    with bar("items") as on_progress:
        done = import_file(lmdb, release, workers=workers, on_progress=on_progress)
    kept = f", {done.kept:,} were there already" if done.kept else ""
    console.print(f"{release / PLACES[done.kind][0]}: {done.written:,} files written{kept}")
    if done.folded:
        console.print(
            f"note: the frames of {done.folded:,} items were normalised twice by the original code, which folded their "
            f"dark and bright halves onto each other; this cannot be undone, so prefer the videos"
        )
    for item, fault in list(done.faults.items())[:20]:
        console.print(f"fault: item {item} left out: {fault}")
    if len(done.faults) > 20:
        console.print(f"... and {len(done.faults) - 20:,} more items left out")
    console.print(f"Next: microlens data prepare {release} DATASET")


def export_lmdb(
    dataset: Annotated[Path, typer.Argument(help="A prepared dataset.")],
    out: Annotated[Path, typer.Argument(help="Output file, such as clips.lmdb.")],
    kind: Annotated[Literal["clips", "covers"], typer.Option(help="Content to export.")] = "clips",
) -> None:
    """Write the clips or covers of a dataset as an LMDB file that the original code reads."""
    from microlens.data.export_lmdb import export_lmdb as export_file

    with bar("items") as on_progress:
        number = export_file(dataset, out, kind, on_progress=on_progress)
    console.print(f"{out}: the {kind} of {number:,} items, {out.stat().st_size / 1e6:,.1f} MB")
