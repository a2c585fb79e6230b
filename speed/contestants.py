"""The ways that a benchmark compares: each in a process of its own, started alike, measured in turn.

    python speed/contestants.py MODULE FUNCTION ARGUMENTS

is the process of one way, started by :func:`in_turns`. It calls a function of a module in this folder with its turns
and the JSON object ``ARGUMENTS``. Nothing that one way sets for its process, such as the allocator's parameters or the
number of threads, reaches another, and none has the arrays of another in its heap. A way that is not Python's, or is
Python's of another environment, is any command that answers as :class:`Turns` does.
"""

import gc
import importlib
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import Cost, cpu_seconds, median_cost, peak_bytes

HERE = Path(__file__).resolve().parent


class Turns:
    """The side of a contestant: says when it is ready, waits for each turn, and answers what the turn took.

    Standard output belongs to the answers; whatever else is printed goes to standard error.
    """

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def ready(self, **facts: object) -> None:
        """Say that the preparation, which is not measured, is over, and what it found."""
        self._answer(facts)

    def begin(self) -> bool:
        """Wait for a turn and begin to measure it; False if there is none left."""
        if not sys.stdin.readline():
            return False
        gc.collect()
        self._begun = cpu_seconds(), time.perf_counter()
        return True

    def end(self) -> None:
        """Answer what the turn took."""
        wall, cpu = time.perf_counter() - self._begun[1], cpu_seconds() - self._begun[0]
        self._answer({"cpu_seconds": cpu, "wall_seconds": wall, "peak_bytes": peak_bytes()})

    def take(self, work: Callable[[], object], **facts: object) -> None:
        """Be ready, and call ``work`` at every turn."""
        self.ready(**facts)
        while self.begin():
            work()
            self.end()

    def _answer(self, answer: Mapping[str, object]) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()


def contestant(function: Callable[..., None], python: str = sys.executable, **arguments: object) -> list[str]:
    """The command of a process that calls ``function``, of a module in this folder, with its turns and ``arguments``.

    Paths among the arguments arrive as strings.
    """
    return command_of(Path(inspect.getfile(function)).stem, function.__name__, python, **arguments)


def command_of(module: str, function: str, python: str = sys.executable, **arguments: object) -> list[str]:
    """Like :func:`contestant`, of a module that only ``python`` can import."""
    return [python, str(HERE / "contestants.py"), module, function, json.dumps(arguments, default=str)]


@dataclass
class Turned:
    """What a contestant said when it was ready, what its turns took, and the most memory that its process has held."""

    facts: dict[str, Any]
    cpu_seconds: list[float] = field(default_factory=list)
    wall_seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def cost(self) -> Cost:
        """Medians over the turns."""
        return median_cost(self.cpu_seconds, self.wall_seconds)

    @property
    def least(self) -> dict[str, float]:
        """The least over the turns."""
        return {"cpu_seconds": round(min(self.cpu_seconds), 4), "wall_seconds": round(min(self.wall_seconds), 4)}


def in_turns(commands: Mapping[str, list[str]], repeats: int, *, warm_up: int = 0) -> dict[str, Turned]:
    """Start the contestants one after the other, then give each its turn: a, b, a, b, ...

    Args:
        commands: a command for every way.
        repeats: turns that are measured.
        warm_up: turns before them that are not, for compiling and for filling caches.

    Raises:
        RuntimeError: a contestant ended before its last turn.
    """
    with ExitStack() as stack:
        processes = {}
        turned = {}
        for name, command in commands.items():
            processes[name] = stack.enter_context(_started(command))
            turned[name] = Turned(_answer_of(name, processes[name]))
        for turn in range(warm_up + repeats):
            for name, process in processes.items():
                assert process.stdin is not None
                process.stdin.write("turn\n")
                process.stdin.flush()
                answer = _answer_of(name, process)
                if turn >= warm_up:
                    turned[name].cpu_seconds.append(answer["cpu_seconds"])
                    turned[name].wall_seconds.append(answer["wall_seconds"])
                turned[name].peak_bytes = answer["peak_bytes"]
    return turned


@contextmanager
def _started(command: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """A process that ends with the block: by itself when its input ends, at once after an error."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        assert process.stdin is not None
        process.stdin.close()


def _answer_of(name: str, process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"'{name}' ended with status {process.wait()} before its last turn")
    answer: dict[str, Any] = json.loads(line)
    return answer


def main() -> None:
    """Be the process of one way."""
    module, function, arguments = sys.argv[1:]
    turns = Turns()
    getattr(importlib.import_module(module), function)(turns, **json.loads(arguments))


if __name__ == "__main__":
    main()
