"""Commands of the feed."""

from pathlib import Path
from typing import Annotated

import typer

from microlens.cli.output import console

DEFAULT_EVENTS = "sqlite:///feed/events.sqlite"


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
