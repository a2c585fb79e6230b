"""Commands that make smaller releases of larger ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microlens.cli.output import bar, console
from microlens.errors import InputError
from microlens.seeds import LARGEST_SEED

if TYPE_CHECKING:
    from microlens.subsets.subset import Subset

_Release = Annotated[Path, typer.Argument(help="A folder in the official layout.")]
_Out = Annotated[Path, typer.Argument(help="Output folder of the new release.")]
_Renumber = Annotated[
    bool, typer.Option("--renumber", help="Number users and items 1, 2, ...; NAME_item_ids.csv holds the former ids.")
]
_LARGEST = 2**31 - 1


def filter_release(
    release: _Release,
    out: _Out,
    start: Annotated[
        str | None, typer.Option("--from", help="First, keep interactions from this time on: 2023-01-31, or a number.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="First, keep interactions before this time.")] = None,
    warm: Annotated[
        int, typer.Option(min=1, max=_LARGEST, help="Second, remove items with fewer interactions, once.")
    ] = 1,
    min_length: Annotated[
        int, typer.Option(min=1, max=_LARGEST, help="Third, remove users with fewer interactions, once.")
    ] = 1,
    core: Annotated[
        int | None,
        typer.Option(
            "--k-core", min=1, max=_LARGEST, help="Last, remove users and items with fewer, until all have enough."
        ),
    ] = None,
    user_core: Annotated[
        int | None, typer.Option(min=1, max=_LARGEST, help="Instead of --k-core, the number for users.")
    ] = None,
    item_core: Annotated[
        int | None, typer.Option(min=1, max=_LARGEST, help="Instead of --k-core, the number for items.")
    ] = None,
    renumber: _Renumber = False,
) -> None:
    """Write the part of a release that meets conditions, with the titles, tags and media of its items."""
    from microlens.subsets.filtering import filter_release as filter_of

    if core is not None and (user_core is not None or item_core is not None):
        raise InputError("--k-core is given beside --user-core or --item-core; give one or the other.")
    with bar("media files") as on_progress:
        done = filter_of(
            release,
            out,
            start=start,
            end=end,
            warm=warm,
            min_length=min_length,
            user_core=user_core or core or 1,
            item_core=item_core or core or 1,
            renumber=renumber,
            on_progress=on_progress,
        )
    _show(out, done)


def sample_release(
    release: _Release,
    out: _Out,
    users: Annotated[int, typer.Option(min=1, max=_LARGEST, help="Number of users.")],
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the draw.")] = 0,
    renumber: _Renumber = False,
) -> None:
    """Write all interactions of some users, drawn at random, with the titles, tags and media of their items."""
    from microlens.subsets.sampling import sample_release as sample_of

    with bar("media files") as on_progress:
        done = sample_of(release, out, users=users, seed=seed, renumber=renumber, on_progress=on_progress)
    _show(out, done)


def _show(out: Path, done: "Subset") -> None:
    for step in done.steps:
        console.print(f"{step.name}: {step.users:,} users, {step.items:,} items, {step.interactions:,} interactions")
    for note in done.notes:
        console.print(f"note: {note}")
    console.print(f"{out}: {done.media:,} media files. Next: microlens data prepare {out} DATASET")
