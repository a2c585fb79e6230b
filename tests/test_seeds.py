"""Every command and function that takes a seed accepts the same ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer

import microlens as ml
from microlens.cli import app
from microlens.download.release import download_release, plan_release
from microlens.errors import InputError
from microlens.release.synthetic_world import build_world
from microlens.seeds import LARGEST_SEED, checked_seed
from microlens.subsets.sampling import sample_users
from tests.conftest import write_pairs
from tests.data.test_prepare import run_command

WRONG = [-1, -(2**70), LARGEST_SEED + 1, 0.5, float("nan"), True, "1", None]


def seed_options(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The option ``--seed`` of every command, with the words of the command."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from seed_options(inner, (*path, name))
    for option in command.params:
        if "--seed" in option.opts:
            yield " ".join(path), option


def test_every_seed_option_has_the_same_bounds() -> None:
    options = dict(seed_options(typer.main.get_command(app)))
    assert {"data synth", "data sample", "data download", "features extract"} <= options.keys()
    ranges = [option if hasattr(option, "max") else option.type for option in options.values()]  # by version of typer
    assert {(one.min, one.max) for one in ranges} == {(0, LARGEST_SEED)}


@pytest.mark.parametrize("seed", WRONG, ids=repr)
def test_what_is_no_seed_is_refused(tmp_path: Path, seed: Any) -> None:
    release = write_pairs(tmp_path / "release", [[1, 2, 3], [2, 3, 4]])
    out = tmp_path / "out"
    for call in (
        lambda: checked_seed(seed),
        lambda: ml.sample_release(release, out, users=1, seed=seed),
        lambda: sample_users(pl.DataFrame({"user": [1], "item": [1]}), 1, seed),
        lambda: ml.write_interactions_only(out, users=5, items=5, seed=seed),
        lambda: ml.write_release(out, users=10, items=12, seed=seed),
        lambda: build_world(10, 12, seed),
        lambda: download_release("50k", out, seed=seed),
        lambda: plan_release("50k", out, seed=seed),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value) == f"seed is {seed!r}; accepted are integers from 0 to 9,223,372,036,854,775,807."
    assert not out.exists()
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("seed", [0, LARGEST_SEED, np.int64(3), np.uint8(3)], ids=repr)
def test_seeds_of_any_integer_type_are_accepted(tmp_path: Path, seed: Any) -> None:
    release = write_pairs(tmp_path / "release", [[1, 2, 3], [2, 3, 4]])
    assert ml.sample_release(release, tmp_path / "sample", users=1, seed=seed).steps[-1].users == 1
    assert ml.write_interactions_only(tmp_path / "many", users=5, items=5, seed=seed) >= 25
    assert type(build_world(10, 12, seed).seed) is int  # it is written as JSON


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1])
def test_commands_name_the_option(tmp_path: Path, seed: int) -> None:
    release, out = write_pairs(tmp_path / "release", [[1, 2, 3], [2, 3, 4]]), tmp_path / "out"
    for words in (
        ("data", "sample", release, out, "--users", 1),
        ("data", "synth", out),
        ("data", "synth", out, "--interactions-only", "--users", 5, "--items", 5),
        ("data", "download", "50k", out, "--dry-run"),
    ):
        status, _, told = run_command(*words, "--seed", seed)
        assert (status, told.count("\n")) == (2, 1)
        assert "--seed" in told
    assert not out.exists()
