"""Work shared by processes: each result comes, what kills is named, what is innocent is not blamed, and none stays."""

import errno
import fcntl
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from microlens.errors import InputError
from microlens.media import processes
from microlens.media.processes import Killed, work
from tests.conftest import REPOSITORY
from tests.media.worker_tasks import (
    die_at_the_first_attempt,
    fail,
    hang_on_zero,
    hold_a_lock_or_return,
    run_out_of_memory,
    square_unless_deadly,
)


def results(function: Callable[[Any], Any], tasks: list[Any], workers: int = 2) -> dict[Any, Any]:
    return dict(work(function, tasks, workers))


def test_every_task_has_its_result() -> None:
    assert results(square_unless_deadly, list(range(20))) == {number: number**2 for number in range(20)}
    assert results(square_unless_deadly, []) == {}


@pytest.mark.parametrize(("deadly", "workers"), [((3,), 1), ((0, 1, 2), 1), ((0, 4), 3)])
def test_tasks_that_kill_are_named_and_the_others_are_done(deadly: tuple[int, ...], workers: int) -> None:
    found = results(partial(square_unless_deadly, deadly=deadly), list(range(8)), workers)
    killed = Killed("kills the process (SIGKILL)")
    assert found == {number: killed if number in deadly else number**2 for number in range(8)}


def test_a_single_task_that_kills_is_named() -> None:
    assert results(partial(square_unless_deadly, deadly=(5,)), [5]) == {5: Killed("kills the process (SIGKILL)")}


@pytest.mark.parametrize("tasks", [2, 30])
def test_where_everything_kills_nothing_is_blamed(tasks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_KILLERS_WITHOUT_SUCCESS", 3)
    found = work(partial(square_unless_deadly, deadly=tuple(range(tasks))), range(tasks), 2)
    with pytest.raises(InputError, match=r"kills the process \(SIGKILL\) and none succeeded, so the cause is not"):
        next(found)


def test_what_dies_among_others_and_not_alone_is_not_blamed(tmp_path: Path) -> None:
    assert results(partial(die_at_the_first_attempt, folder=tmp_path), [1, 2, 3]) == {1: 1, 2: 2, 3: 3}


def test_processes_that_die_at_their_start_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PROGRAM", "raise SystemExit('no module named so')")
    with pytest.raises(InputError, match=r"died during startup \(exit status 1: no module named so\)"):
        results(square_unless_deadly, [1, 2, 3])


def test_processes_that_no_longer_start_after_a_death_blame_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = work(partial(square_unless_deadly, deadly=(2,)), [1, 2], 1)
    assert next(found) == (1, 1)
    monkeypatch.setattr(processes, "_PROGRAM", "raise SystemExit(1)")
    with pytest.raises(InputError, match="died during startup"):
        next(found)


def test_a_task_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SECONDS_A_TASK", 0.6)
    assert results(hang_on_zero, [0, 1, 2]) == {0: Killed("takes longer than 0.01 minutes"), 1: 1, 2: 2}


def test_a_task_too_large_for_the_memory_is_named() -> None:
    assert results(run_out_of_memory, [0, 1, 2]) == {0: 0, 1: Killed("needs more memory than there is"), 2: 2}


def test_what_the_machine_lacks_ends_the_work() -> None:
    with pytest.raises(OSError, match="No space left") as full:
        results(fail, [OSError(errno.ENOSPC, "No space left on device", "/x")])
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, "/x")
    with pytest.raises(RuntimeError, match=r"(?s)in fail\n.*ZeroDivisionError: bug"):
        results(fail, [ZeroDivisionError("bug")])


def test_no_process_stays_when_the_work_is_broken_off(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    found = work(hold_a_lock_or_return, [tmp_path / "none", lock], 2)
    next(found)
    wait_for(lock.with_suffix(".held").exists)
    found.close()
    assert is_free(lock)


def test_no_process_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    program = (
        "from pathlib import Path; from microlens.media.processes import work; from tests.media.worker_tasks import "
        f"hold_a_lock; list(work(hold_a_lock, [Path({str(lock)!r})], 1))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY)
    wait_for(lock.with_suffix(".held").exists)
    process.kill()
    process.wait()
    wait_for(lambda: is_free(lock))


def test_a_script_needs_no_guard_and_runs_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from microlens.media.processes import work\nprint(sorted(work(abs, [-1, -2], 2)))\n")
    for arguments, text in ([str(script)], None), (["-"], script.read_text()):
        process = subprocess.run([sys.executable, *arguments], input=text, capture_output=True, text=True, check=True)
        assert (process.stdout, process.stderr) == ("[(-2, 2), (-1, 1)]\n", "")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_free(lock: Path) -> bool:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
