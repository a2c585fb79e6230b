"""What users rely on: a change here is a change for them, and has to be meant."""

import dataclasses
import inspect
import re
import shlex
import typing
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import microlens
from microlens.cli import app
from tests.conftest import REPOSITORY
from tests.data.test_prepare import run_command
from tests.documents import ALL_BLOCKS

COMMANDS: dict[str, list[str]] = {
    "data download": [
        "NAME",
        "OUT",
        "--only",
        "--items",
        "--seed",
        "--mirror",
        "--jobs",
        "--dry-run",
        "--engine",
        "--ray-address",
    ],
    "data adopt": ["FOLDER", "OUT", "--set"],
    "data synth": ["OUT", "--users", "--items", "--seed", "--interactions-only", "--mean-length"],
    "data convert": ["SOURCE", "OUT", "--format", "--to"],
    "data filter": [
        *("RELEASE", "OUT", "--from", "--to", "--warm", "--min-length", "--k-core", "--user-core", "--item-core"),
        "--renumber",
    ],
    "data sample": ["RELEASE", "OUT", "--users", "--seed", "--renumber"],
    "data prepare": [
        *("RELEASE", "DATASET", "--frames", "--num-frames", "--size", "--crop", "--sample-rate", "--num-mels"),
        *("--workers", "--memory", "--engine", "--ray-address", "--shards"),
    ],
    "data import-lmdb": ["LMDB", "RELEASE", "--workers"],
    "data export-lmdb": ["DATASET", "OUT", "--kind"],
    "data web": ["RELEASE", "DATASET", "--workers"],
    "data verify": [
        *("RELEASE", "--set", "--against", "--write-mapping", "--json", "--html", "--state", "--jobs"),
        *("--engine", "--ray-address"),
    ],
    "data stats": ["DATASET", "--html", "--png", "--json"],
    "train": ["CONFIG", "--set", "--fresh/--resume", "--dry-run"],
    "evaluate": ["RUN", "--dataset", "--json"],
    "recommend": [
        *(
            "RUN",
            "--user",
            "--users",
            "--history",
            "--add-video",
            "--add-title",
            "--add-tag",
            "--add-cover",
            "-k/--top",
        ),
        *("--out", "--dataset"),
    ],
    "similar": ["RUN", "ITEM", "-k/--top", "--dataset"],
    "vectors": ["RUN", "--out", "--video", "--dataset"],
    "compare": ["RUNS", "--metric", "--json"],
    "new-items": ["RUNS", "--test", "-k/--top", "--figure", "--json"],
    "report": ["RUNS", "--html", "--dataset"],
    "tune": ["CONFIG", "--trials", "--minutes", "--set", "--output"],
    "bench": [
        *("TABLE", "--dataset", "--source", "--configs", "--output", "--only", "--against", "--seeds", "--jobs"),
        *("--budget", "--html", "--protocol", "--mix", "--smoke"),
    ],
    "data from-events": ["EVENTS", "OUT", "--release", "--merge", "--keep-users", "--settings"],
    "feed serve": [
        *("RUNS", "--dataset", "--release", "--host", "--port", "--token", "--operator-token", "--events"),
        *("--settings", "--user", "--interleave", "--study", "--uploads"),
    ],
    "feed simulate": [
        *("RELEASE", "--url", "--people", "--videos", "--seed", "--at-once", "--only", "--new-videos"),
        *("--token", "--before", "--json", "--figure"),
    ],
    "feed report": ["EVENTS", "--study", "--estimate", "--settings", "--json", "--figure"],
    "feed participants": ["STUDY", "OUT", "--count", "--url", "--events"],
    "feed answers": ["STUDY", "OUT", "--events"],
    "features extract": [
        *("--encoder", "DATASET", "--weights", "--seed", "--out", "--option", "--missing", "--layers"),
        *("--per-frame", "--classify", "--engine", "--ray-address", "--json"),
    ],
    "features diff": ["A", "B", "--json"],
    "features adopt": ["SOURCE", "OUT", "--first-id", "--mapping"],
    "features codes": [
        *("FEATURES", "--method", "--levels", "--codes", "--seed", "--epochs", "--dataset", "--out", "--json"),
    ],
    "runs check": ["FOLDERS", "--json"],
    "runs adopt": ["FOLDERS"],
    "list": ["WHAT", "--cost", "--frames", "--size", "--measure", "--encoder", "--option", "--json"],
}


def leaves(command: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    if not hasattr(command, "commands"):
        return {" ".join(path): command}
    found: dict[str, Any] = {}
    for name, child in command.commands.items():
        found |= leaves(child, (*path, name))
    return found


def spelling(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    return "/".join([*parameter.opts, *parameter.secondary_opts])


def documented_commands() -> list[str]:
    """Every command line of the program that the README and the documentation show, without the program's name."""
    shown = [line for block in ALL_BLOCKS if block.language == "console" for line in block.commands()]
    return [line.removeprefix("microlens ") for line in shown if line.startswith("microlens ")]


def parse(arguments: list[str]) -> None:
    """Parse a command line as the program does, without running it."""
    command: Any = get_command(app)
    context = command.make_context("microlens", arguments)
    while hasattr(command, "commands"):
        rest = [*getattr(context, "_protected_args", context.args[:0]), *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def test_the_version_is_that_of_the_distribution() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", microlens.__version__)
    assert metadata.version("microlens") == microlens.__version__


def test_the_commands_and_their_options() -> None:
    found = leaves(get_command(app))
    assert {
        name: [spelling(parameter) for parameter in command.params if parameter.name != "help"]
        for name, command in found.items()
    } == COMMANDS


@pytest.mark.parametrize("name", ["", "data", *COMMANDS])
def test_help_says_what_everything_is(name: str) -> None:
    status, told, _ = run_command(*name.split(), "--help")
    assert status == 0
    for option in COMMANDS.get(name, [command.split()[0] for command in COMMANDS] if not name else []):
        assert option.split("/")[0].lower() in told.lower()


def test_the_readme_shows_the_way_from_data_to_recommendations() -> None:
    shown = documented_commands()
    assert {" ".join(line.split()[: 2 if line.startswith("data") else 1]) for line in shown} >= {
        "data prepare", "train", "recommend", "report",
    }  # fmt: skip


@pytest.mark.parametrize("line", documented_commands())
def test_documented_commands_are_accepted(line: str) -> None:
    arguments = shlex.split(line, comments=True)
    parse(arguments)
    assert all((REPOSITORY / path).exists() for path in arguments if path.startswith("configs/"))


@pytest.mark.parametrize("line", ["trian x.toml", "train", "train x.toml --epochs 3", "similar run 3 -k many"])
def test_commands_that_do_not_exist_are_not_accepted(line: str) -> None:
    with pytest.raises(Exception, match=r"(?i)(no such|missing|valid integer)"):
        parse(shlex.split(line))
    assert run_command(*line.split())[0] == 2


def functions_of(value: Any) -> Iterator[Any]:
    """A function, or what a class is made with and its own functions."""
    if inspect.isfunction(value):
        yield value
    elif inspect.isclass(value) and not dataclasses.is_dataclass(value):
        members = [one for name, one in vars(value).items() if name == "__init__" or not name.startswith("_")]
        yield from (one.__func__ if isinstance(one, (classmethod, staticmethod)) else one for one in members)


@pytest.mark.parametrize("name", sorted(microlens.__all__))
def test_paths_may_be_text(name: str) -> None:
    for function in functions_of(getattr(microlens, name)):
        if not inspect.isfunction(function):
            continue
        for parameter, kind in typing.get_type_hints(function).items():
            accepted = [kind, *typing.get_args(kind)]
            assert parameter == "return" or Path not in accepted or str in accepted, f"{name}, {parameter}: {kind}"
