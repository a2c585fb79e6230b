"""What is printed: text of others cannot steer the terminal, and nothing fails for a character or a closed pipe."""

import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from io import StringIO
from pathlib import Path

import polars as pl
import pytest
from rich.table import Table

from microlens.errors import InputError, printable, sentence_of
from microlens.page import fill
from microlens.runs.terminal import Console
from tests.conftest import random_sequences, write_pairs
from tests.data.test_prepare import run_command

HOSTILE = "a\x1b]0;title\x07b\x1b[31mc\x9b31md\x00\x08\x7f\re\u202egnp\u2066f\ud800[bold]:smile:"
CLEAN = "a]0;titleb[31mc31mdegnpf\ufffd[bold]:smile:"


def test_control_characters_go_and_the_rest_stays() -> None:
    assert printable(HOSTILE) == CLEAN
    assert printable("\tcafé 视频 \U0001f600\n") == "\tcafé 视频 \U0001f600\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_the_console_prints_no_control_characters_of_others(terminal: bool) -> None:
    file = StringIO()
    console = Console(file=file, width=200, force_terminal=terminal, color_system=None)
    table = Table("title", title=HOSTILE)
    table.add_row(HOSTILE, style="bold")
    console.print(HOSTILE)
    console.print(table)
    assert file.getvalue().startswith(f"{CLEAN}\n")
    assert file.getvalue().count(CLEAN) == 3
    assert printable(file.getvalue()).replace("\x1b", "") == file.getvalue().replace("\x1b", "")


def test_an_input_error_is_one_printable_line_of_sane_length() -> None:
    assert str(InputError(f"x.csv, line 1: {HOSTILE}\nmicrolens: all is well")) == (
        f"x.csv, line 1: {CLEAN.replace('de', 'd e')} microlens: all is well"
    )
    long = str(InputError(f"x.csv, line 1: {'y' * 50_000_000}; expected three integers."))
    assert len(long) == 1005
    assert long.startswith("x.csv, line 1: yyy")
    assert long.endswith("yyy; expected three integers.")


def test_pages_hold_no_control_characters(tmp_path: Path) -> None:
    values = ("title", "compared", "verdict", "panels", "accuracy", "cost", "curves", "groups", "users", "provenance")
    fill(tmp_path / "page.html", "page.html", dict.fromkeys(values, HOSTILE))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count(CLEAN) >= len(values)
    assert printable(text) == text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BrokenPipeError(32, "Broken pipe"), "a worker process ended without a message"),
        (BrokenProcessPool("A process in the process pool was terminated"), "a worker process ended without a message"),
        (MemoryError(), "there is not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "there is not enough memory"),
        (OSError(24, "Too many open files"), "too many files are open"),
        (OSError(36, "File name too long", "x\x1b[31m\ny"), "x[31m y cannot be used: File name too long."),
        (FileNotFoundError(2, "No such file or directory"), "the working folder does not exist any more"),
        (OSError("No space left on device (os error 28)"), "no space left on the disk"),
        (pl.exceptions.ComputeError("underlying IO error: No space left on device (os error 28)"), "no space left"),
        (pl.exceptions.ComputeError("File out of specification: The file must end with PAR1"), None),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (OSError(9, "Bad file descriptor"), None),
        (KeyError("x"), None),
    ],
)
def test_failures_of_the_machine_have_a_sentence_and_our_own_have_none(error: Exception, words: str | None) -> None:
    sentence = sentence_of(error)
    assert sentence is None if words is None else words in str(sentence)


@pytest.mark.parametrize("kind", [OSError, pl.exceptions.ComputeError])
def test_a_disk_that_is_full_when_polars_writes_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: type[Exception]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise kind("underlying IO error: No space left on device (os error 28)")

    write_pairs(tmp_path / "release", random_sequences(5, 12))
    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    status, _, told = run_command("data", "prepare", tmp_path / "release", tmp_path / "dataset", "--workers", "1")
    assert status == 2
    assert told.startswith("microlens: no space left on the disk; free some and run the same command again")


def test_a_broken_pipe_between_processes_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("microlens.data.prepare.prepare", broken)
    status, _, told = run_command("data", "prepare", tmp_path, tmp_path / "dataset")
    assert status == 2
    assert told.startswith("microlens: a worker process ended without a message")


def microlens(*arguments: str | bytes, **options: object) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "microlens", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, check=False, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("arguments", [["--help"], ["data", "prepare", "release", "dataset", "--workers", "1"]])
def test_a_reader_that_ends_early_is_no_fault(tmp_path: Path, arguments: list[str]) -> None:
    write_pairs(tmp_path / "release", [[1, 2, 3, 4, 5]])
    reading, writing = os.pipe()
    os.close(reading)
    ended = microlens(*arguments, stdout=writing, cwd=tmp_path)
    os.close(writing)
    assert ended.returncode == 1
    assert ended.stderr == b""


def test_what_the_terminal_has_no_characters_for_is_replaced(tmp_path: Path) -> None:
    write_pairs(tmp_path / "release", random_sequences(5, 12))
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    arguments = ("data", "prepare", "release", "caf\u00e9", "--workers", "1")
    ended = microlens(*arguments, stdout=subprocess.PIPE, cwd=tmp_path, env=environment)
    assert ended.returncode == 0
    assert b"caf? is ready." in ended.stdout
    ended = microlens("data", "prepare", b"r\xff\x1b[31m", "x", stdout=subprocess.PIPE, cwd=tmp_path, env=environment)
    assert ended.returncode == 2
    assert ended.stderr.startswith(b"microlens: r?[31m is not a folder")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trian",), "No such command 'trian'"),
        (("train",), "Missing argument"),
        (("train", "--\x1b[31mstet"), "No such option"),
        (("data", "prepare", "a", "b", "c\x1b]0;x\x07"), "unexpected extra argument"),
        (("data", "synth", "out", "--seed", str(2**63)), "--seed"),
        (("data", "synth", "out", "--users", str(10**12)), "--users"),
        (("features", "--encoder", "x3d_xs", "dataset", "--seed", str(2**63)), "--seed"),
        (("features", "--encoder", "x3d_xs", "dataset", "--seed", "-1"), "--seed"),
        (("list", "encoders", "--cost", "--frames", str(10**9)), "--frames"),
        (("tune", "config.toml", "--minutes", "nan"), "--minutes is nan; it must be a number of minutes above 0."),
        (
            ("bench", "baseline", "--smoke", "--budget", "nan"),
            "--budget is nan; it must be a number of minutes above 0.",
        ),
    ],
)
def test_arguments_that_are_wrong_are_told_in_one_clean_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, told, wrong = run_command(*arguments)
    assert (status, told) == (2, "")
    assert wrong.startswith("microlens: ")
    assert wrong.count("\n") == 1
    assert words in wrong
    assert printable(wrong) == wrong
    assert not list(tmp_path.iterdir())
