"""Functions that the tests run in worker processes and Ray tasks, in a module that is quick to import."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from microlens.errors import InputError


def square(number: int) -> int:
    return number * number


def deadly(number: int) -> int:
    if number == 3:
        os._exit(9)
    return number


class Unreadable:
    """A shard that another process cannot read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (broken, (1,))


def refuse(number: int) -> int:
    raise InputError(f"{number} is refused.")


def broken(number: int) -> int:
    return number // 0


def die_once(mark: Path, number: int) -> int:
    """Kill the process that works on number 2, the first time."""
    if number == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail_once(mark: Path, number: int) -> int:
    if number == 2 and not mark.exists():
        mark.touch()
        raise OSError(5, "a short failure")
    return number


def logged(log: Path, number: int) -> int:
    with log.open("a") as file:
        file.write(f"{number}\n")
    time.sleep(0.2)
    return number
