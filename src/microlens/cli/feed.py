"""Commands of the feed."""

from pathlib import Path
from typing import Annotated

import typer

from microlens.cli.output import bar, console
from microlens.feed import DEFAULT_EVENTS, require_packages


def serve(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several are compared on people.")],
    dataset: Annotated[Path | None, typer.Option(help="Folder of the dataset, if it was moved.")] = None,
    release: Annotated[Path | None, typer.Option(help="Folder of the release, with videos and covers.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; other than 127.0.0.1 needs --token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    token: Annotated[str | None, typer.Option(envvar="MICROLENS_FEED_TOKEN", help="Secret that admits people.")] = None,
    operator_token: Annotated[
        str | None, typer.Option(envvar="MICROLENS_FEED_OPERATOR_TOKEN", help="Secret that admits operators.")
    ] = None,
    events: Annotated[
        str, typer.Option(envvar="MICROLENS_FEED_EVENTS", help="Event store: sqlite:///PATH or postgresql://...")
    ] = DEFAULT_EVENTS,
    settings: Annotated[Path | None, typer.Option(help="A TOML file with settings.")] = None,
    user: Annotated[str | None, typer.Option(help="A user of the dataset whom everybody continues.")] = None,
    interleave: Annotated[
        bool, typer.Option("--interleave", help="Let the models choose in turn, instead of one for each person.")
    ] = False,
) -> None:
    """Serve a feed of videos, chosen by a trained run, at an address to open in a browser."""
    require_packages()
    from microlens.feed.server.running import serve as serve_feed
    from microlens.feed.settings import FeedSettings

    serve_feed(
        runs,
        dataset=dataset,
        release=release,
        events=events,
        settings=None if settings is None else FeedSettings.load(settings),
        host=host,
        port=port,
        token=token,
        operator_token=operator_token,
        user=user,
        interleave=interleave,
        on_ready=_say,
    )


def _say(address: str, items: int) -> None:
    console.print(f"{items:,} items. Open {address} (stop with Ctrl+C)")


def from_events(
    events: Annotated[str, typer.Argument(help="Event store of the feed: sqlite:///PATH or postgresql://...")],
    out: Annotated[Path, typer.Argument(help="Output folder of the release.")],
    release: Annotated[
        Path | None, typer.Option(help="The release that was served, for titles, tags, likes, views and media.")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Take over the interactions of --release, too; people come after its users.")
    ] = False,
    keep_users: Annotated[
        bool, typer.Option("--keep-users", help="Call users by the ids of the event store instead of 1, 2, ...")
    ] = False,
    settings: Annotated[Path | None, typer.Option(help="Settings of the feed, a TOML file.")] = None,
) -> None:
    """Write what people did in a feed as a release in the official layout; the feed may run meanwhile."""
    require_packages()
    from microlens.feed.from_events import release_from_events
    from microlens.feed.settings import FeedSettings

    loaded = None if settings is None else FeedSettings.load(settings)
    with bar("media files") as on_progress:
        done = release_from_events(
            events, out, release=release, merge=merge, keep_users=keep_users, settings=loaded, on_progress=on_progress
        )
    if done.unknown:
        console.print(f"note: left out are {done.unknown:,} positive items that the release does not have")
    for note in done.notes:
        console.print(f"note: {note}")
    console.print(
        f"{out}: {done.users:,} users, {done.items:,} items, {done.interactions:,} interactions, {done.from_feed:,} of "
        f"them from the feed, {done.comments:,} comments, {done.media:,} media files. "
        f"Next: microlens data prepare {out} DATASET"
    )
