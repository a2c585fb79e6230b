"""Work shared by processes, any of which may die: what each one holds is known, so nothing else is lost or blamed.

Each is a Python program of its own that loads this package and not the main script: scripts need no guard around their
start, notebooks work, and nothing needs /dev/shm. They end with the process that started them, however it ends.
"""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from tempfile import TemporaryFile
from threading import Thread
from typing import Any, TypeVar

from microlens.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

SECONDS_A_TASK = 600.0
SECONDS_TO_START = 600.0
# So many different tasks kill processes and none at all is done: the fault is not theirs.
_KILLERS_WITHOUT_SUCCESS = 8
_PROGRAM = "import sys; sys.path[:] = {path!r}; from microlens.media.processes import serve; serve({channel})"


@dataclass(frozen=True)
class Killed:
    """What a task comes to that killed two processes, the second while no other worked; ``how`` begins with a verb."""

    how: str


def work(function: Callable[[T], R], tasks: Iterable[T], workers: int) -> Generator[tuple[T, R | Killed]]:
    """Apply ``function`` to every task in ``workers`` processes, and yield each task with its result as it is ready.

    A task whose process dies, runs out of memory, or is at it for longer than ``SECONDS_A_TASK``, is tried again in a
    new process while no other works. It is :class:`Killed` only if it ends the same way, although that process had
    started well and so does another afterwards. Where several tasks kill and none at all is done, none is blamed.

    Args:
        function: one that can be imported by its name, or a ``partial`` of one.
        tasks: what it is applied to.
        workers: the number of processes.

    Raises:
        InputError: processes do not start, or die whatever they do.
        OSError: raised by ``function``.
    """
    waiting = deque(tasks)
    killers: list[tuple[T, Killed]] = []
    any_done = False
    while waiting and (any_done or len(killers) < _KILLERS_WITHOUT_SUCCESS):
        suspects: list[T] = []
        for task, answer in _round(function, waiting, workers):
            if isinstance(answer, Killed):
                suspects.append(task)
            else:
                any_done = True
                yield task, answer
        for suspect in suspects:
            for task, answer in _round(function, deque([suspect]), 1):
                if isinstance(answer, Killed):
                    killers.append((task, answer))
                else:
                    any_done = True
                    yield task, answer
    if not killers:
        return
    if len(killers) > 1 and not any_done:
        raise InputError(
            f"each of the {len(killers)} things to do {killers[-1][1].how} and none was done, so that none of them is "
            "to blame; perhaps there is too little memory."
        )
    with closing(_Worker(function)) as worker:
        worker.wait_for_start()
    yield from killers


def _round(function: Callable[[T], R], waiting: deque[T], workers: int) -> Generator[tuple[T, R | Killed]]:
    """The results of the tasks ``waiting``, or of the first of them where many processes die."""
    crew: list[_Worker] = []
    deaths_left = 2 * workers
    try:
        crew.extend(_Worker(function) for _ in range(min(workers, len(waiting))))
        while crew:
            for worker in _with_news(crew):
                held, answer = worker.task, worker.hear()
                died = isinstance(answer, Killed)
                deaths_left -= died
                go_on = bool(waiting) and deaths_left > 0
                if died or not go_on:
                    crew.remove(worker)
                    worker.close()
                if go_on and died:
                    crew.append(_Worker(function))
                elif go_on:
                    worker.give(waiting.popleft())
                if held:
                    yield held[0], answer
    finally:
        for worker in crew:
            worker.close()


def _with_news(crew: "list[_Worker]") -> "list[_Worker]":
    """Wait until processes have said something, have died, or have been at a task for too long and are ended."""
    first = min(worker.deadline for worker in crew)
    heard = wait([worker.channel for worker in crew], max(0.0, first - time.monotonic()))
    late = [worker for worker in crew if worker.channel not in heard and worker.deadline <= time.monotonic()]
    for worker in late:
        worker.give_up()
    return [worker for worker in crew if worker.channel in heard or worker in late]


class _Worker:
    """A process that applies ``function`` to one task after the other; ``task`` holds the present one, or nothing."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.task: tuple[Any, ...] = ()
        self.deadline = time.monotonic() + SECONDS_TO_START
        self._has_started = False
        self._gave_up = False
        try:
            self._errors = TemporaryFile()  # noqa: SIM115 - closed with the process
            self.channel, theirs = Pipe()
            path = [entry for entry in sys.path if isinstance(entry, str)]
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - the program is ours
                    [sys.executable, "-c", _PROGRAM.format(path=path, channel=theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors,
                )
        except OSError as error:
            raise InputError(f"a process to work in cannot be started ({error.strerror}).") from error
        self._send(function)

    def give(self, task: Any) -> None:
        """Let the process begin with a task."""
        self.task = (task,)
        self.deadline = time.monotonic() + SECONDS_A_TASK
        self._send(task)

    def _send(self, what: Any) -> None:
        with suppress(ConnectionError):  # it has died, as `hear` is going to find out
            self.channel.send(what)

    def hear(self) -> Any:
        """The result of the task, None from a process that has just started, or Killed if the task was too much for it.

        Raises:
            InputError: it died before it could be given a task.
            Exception: raised by the function.
        """
        try:
            answer = self.channel.recv()
        except (EOFError, OSError):
            return self._died()
        self.task = ()
        self._has_started = True
        if isinstance(answer, MemoryError):
            return Killed("needs more memory than there is")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait_for_start(self) -> None:
        """Raises InputError unless the process starts well."""
        while not self._has_started:
            for worker in _with_news([self]):
                worker.hear()

    def _died(self) -> Killed:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._process.kill()
        ending = _ending(self._process.wait())
        if not self._has_started:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise InputError(
                f"a process to work in died while it was starting ({ending}{': ' if said else ''}{said}); perhaps "
                "there is too little memory, or the installation is damaged."
            )
        if self._gave_up:
            return Killed(f"takes longer than {SECONDS_A_TASK / 60:g} minutes")
        return Killed(f"kills the process ({ending})")

    def give_up(self) -> None:
        """End a process that does not answer; `hear` then says so."""
        self._gave_up = True
        self._process.kill()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self.channel.close()
        self._errors.close()


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def serve(channel_number: int) -> None:
    """What a process does all its life: receive the function, say that it has started, and answer task by task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one decides what is to end
    channel = Connection(channel_number)
    function = channel.recv()
    channel.send(None)
    tasks: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_receive, args=(channel, tasks), daemon=True).start()
    while True:
        channel.send(_answer(function, tasks.get()))


def _receive(channel: Connection, tasks: SimpleQueue[Any]) -> None:
    """Hand on what arrives, and end this process in the middle of whatever it does when the other one has ended."""
    try:
        while True:
            tasks.put(channel.recv())
    except (EOFError, OSError):
        os._exit(1)


def _answer(function: Callable[[Any], Any], task: Any) -> Any:
    """The result, or an exception that can be sent."""
    try:
        return function(task)
    except MemoryError:
        return MemoryError()
    except OSError as error:
        return OSError(error.errno, error.strerror, error.filename) if error.errno else OSError(str(error))
    except InputError as error:
        return InputError(str(error))
    except Exception:
        return RuntimeError(f"in a process that shared the work:\n{traceback.format_exc()}")
