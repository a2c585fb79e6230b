"""The fuzzer finds what is planted, and a short run of it finds nothing else."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from microlens.release.pairs import read_pairs
from tests.fuzz.mutations import Random
from tests.fuzz.pairs import Pairs
from tests.fuzz.runner import fuzz
from tests.fuzz.targets import TARGETS

CASES = dict.fromkeys(TARGETS, 150) | {"configuration": 40, "dataset": 40, "checkpoint": 15}
MEGABYTE = 1024**2


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_finds_nothing(name: str, tmp_path: Path) -> None:
    result = fuzz(TARGETS[name], 0, range(CASES[name]), tmp_path)
    assert [(finding.case, finding.what, finding.where) for finding in result.findings] == []
    assert result.cases == CASES[name]
    assert result.outcomes["read"] > 0, "every case was refused, so nothing was read"
    assert result.outcomes["read"] < CASES[name], "no case was refused, so nothing was damaged"


PLANTED = ("nothing", "exception", "hang", "memory", "exception", "killed", "killed", "wrong")


class Planted(Pairs):
    """Reading pairs, with a fault that depends on the case's number."""

    name = "planted"

    def make(self, folder: Path, random: Random) -> str:
        super().make(folder, random)
        (folder / "truth.json").unlink(missing_ok=True)
        (folder / "x_pairs.tsv").unlink(missing_ok=True)
        (folder / "x_pairs.csv").write_text("".join(f"1,{item},{item}\n" for item in random.permutation(9) + 1))
        return "planted"

    def read(self, folder: Path, random: Random) -> str | None:
        case = int(folder.name.rpartition("-")[2])

        def broken(path: Path) -> Any:
            if case == 1:
                raise AttributeError("'NoneType' object has no attribute 'shape'")
            if case == 2:
                time.sleep(60)
            if case in (3, 4):
                bytearray(b"x") * ((100, 1000)[case - 3] * MEGABYTE)
            if case == 5:
                os.kill(os.getpid(), signal.SIGSEGV)
            if case == 6:
                os._exit(3)
            found = read_pairs(path)
            return replace(found, events=found.events.reverse()) if case == 7 else found

        with mock.patch("tests.fuzz.pairs.read_pairs", broken):
            return super().read(folder, random)


def test_planted_faults_are_found_and_found_again(tmp_path: Path) -> None:
    told: list[Any] = []

    def run(cases: range | list[int]) -> dict[int, Any]:
        result = fuzz(Planted, 7, cases, tmp_path, limit=2, memory=64 * MEGABYTE, on_finding=told.append)
        assert result.cases == len(cases)
        return {finding.case: finding for finding in result.findings}

    found = run(range(8))
    assert {case: finding.kind for case, finding in found.items()} == dict(list(enumerate(PLANTED))[1:])
    assert found[1].what == "AttributeError: 'NoneType' object has no attribute 'shape'"
    assert "broken" in found[1].trace
    assert found[2].what == "no answer after 2 s"
    assert "broken" in found[2].trace  # where it hung
    assert found[4].what.startswith("MemoryError")
    assert found[5].what == "killed by SIGSEGV"
    assert found[6].what == "ended itself with status 3"
    assert "not by user and time" in found[7].what
    assert [finding.case for finding in told] == list(range(1, 8))
    inputs = {case: (Path(finding.saved) / "x_pairs.csv").read_bytes() for case, finding in found.items()}
    assert len(set(inputs.values())) == 7
    again = run([7, 1])
    assert (again[7], again[1]) == (found[7], found[1])
    assert all((Path(again[case].saved) / "x_pairs.csv").read_bytes() == inputs[case] for case in again)
