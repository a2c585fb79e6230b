"""The options of commands that can run on a cluster."""

from typing import Annotated, Literal, TypeAlias

import typer

EngineOption: TypeAlias = Annotated[
    Literal["local", "ray"], typer.Option(help="Processes of this machine, or tasks of a Ray cluster.")
]
RayAddressOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="auto, or HOST:PORT of the cluster's head; by default, Ray is started on this machine."),
]
