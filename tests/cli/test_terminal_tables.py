"""Lists show what a configuration can set, and nothing else."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from microlens.building import build
from microlens.cli.option_rows import Kind, option_rows
from microlens.cli.terminal_tables import option_table
from microlens.config.run_config import RunConfig
from microlens.runs import assembly
from microlens.runs.assembly import GIVEN
from tests.conftest import random_sequences
from tests.option_lists import OPTIONS, text


def shown_options(kind: Kind) -> dict[str, list[str]]:
    """The names of the options in a list, by the first column."""
    names, options, _ = (column._cells for column in option_table(option_rows(kind)).columns)
    return {
        str(name): re.findall(r"(\w+)(?: = (?:\"[^\"]*\"|[^,]+))?(?:, |$)", str(cell))
        for name, cell in zip(names, options, strict=True)
    }


def test_what_is_stored_is_what_the_signatures_say() -> None:
    assert OPTIONS.read_text() == text(), "run: python -m tests.option_lists"


@pytest.mark.parametrize("kind", get_args(Kind))
def test_what_the_data_gives_is_no_option(kind: Kind) -> None:
    for name, options in shown_options(kind).items():
        assert not set(options) & GIVEN, name


def test_options_are_shown() -> None:
    shown = shown_options("models")
    assert shown["sasrec"] == ["blocks", "heads", "dropout", "temperature"]
    assert shown["dssm"] == ["reject_own"]
    assert shown["popularity"] == []


def test_what_is_given_is_what_lists_hide(
    make_dataset: Callable[[list[list[int]]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: set[str] = set()

    def remember(constructor: Any, options: Any, arguments: Mapping[str, Any], where: str) -> Any:
        given.update(arguments)
        return build(constructor, options, arguments, where)

    monkeypatch.setattr(assembly, "build", remember)
    dataset = make_dataset(random_sequences(20, 12))
    table = {"dataset": dataset, "output": dataset.parent / "run", "model": {"name": "gru4rec"}}
    assembly.build_experiment(
        RunConfig.model_validate({**table, "encoder": {"name": "id"}, "train": {"device": "cpu"}})
    )
    assert given | {"towers", "parts"} == GIVEN  # which fusions are given


def test_an_entry_point_that_cannot_be_used_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken-1.0.dist-info").mkdir()
    (tmp_path / "broken-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (tmp_path / "broken-1.0.dist-info" / "entry_points.txt").write_text(
        "[microlens.recommenders]\nlost = nowhere:Lost\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    shown = shown_options("models")
    assert shown["lost (of broken)"] == []
    assert shown["sasrec"]
    _, _, summaries = (column._cells for column in option_table(option_rows("models")).columns)
    assert "cannot be used: name is 'lost', an entry point of broken, but the module 'nowhere' cannot be" in str(
        summaries[-1]
    )
