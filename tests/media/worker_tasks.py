"""Functions that the tests run in worker processes, in a module that is quick to import."""

import fcntl
import os
import signal
from pathlib import Path


def square_unless_deadly(number: int, deadly: tuple[int, ...] = ()) -> int:
    if number in deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def die_at_the_first_attempt(number: int, folder: Path) -> int:
    attempts = folder / f"{number}"
    if not attempts.exists():
        attempts.touch()
        os._exit(3)
    return number


def hang_on_zero(number: int) -> int:
    while not number:
        signal.pause()
    return number


def hold_a_lock(path: Path) -> None:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        path.with_suffix(".held").touch()
        signal.pause()


def run_out_of_memory(number: int) -> int:
    if number == 1:
        raise MemoryError
    return number


def fail(error: Exception) -> None:
    raise error


def hold_a_lock_or_return(path: Path) -> None:
    if path.name == "lock":
        hold_a_lock(path)
