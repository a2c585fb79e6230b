"""A pool of worker processes that survives the death of any of them without losing or blaming other tasks.

Each worker is a separate Python program that loads this package but not the main script: scripts need no main guard,
notebooks work, and /dev/shm is not used. Workers end with the process that started them, however it ends.
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
from threading import Event, Thread
from typing import Any, TypeVar

from microlens.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

SECONDS_A_TASK = 600.0
SECONDS_TO_START = 600.0
_SECONDS_BETWEEN_LOOKS = 0.2
# After this many distinct tasks have killed workers and none succeeded, the cause is not the tasks.
_KILLERS_WITHOUT_SUCCESS = 8
_PROGRAM = "import sys; sys.path[:] = {path!r}; from microlens.media.processes import serve; serve({channel})"


@dataclass(frozen=True)
class Killed:
    """The result of a task that killed two workers, the second while running alone; ``how`` begins with a verb."""

    how: str


def work(
    function: Callable[[T], R], tasks: Iterable[T], workers: int, *, too_many_killers: int = 2
) -> Generator[tuple[T, R | Killed]]:
    """Apply ``function`` to each task in ``workers`` processes; yield each task with its result as it completes.

    A task whose worker dies, runs out of memory or takes longer than ``SECONDS_A_TASK`` is retried in a new worker
    while no other is running. It yields :class:`Killed` only if it fails in the same way although that worker had
    started, and another worker starts afterwards. If ``too_many_killers`` tasks kill workers and none succeeds, no task
    is blamed.

    Args:
        function: an importable function, or a ``partial`` of one.
        tasks: its arguments, one per call.
        workers: number of processes.
        too_many_killers: more than 2 if the tasks are a part of a job.

    Raises:
        InputError: workers do not start, or die independently of the task.
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
    if len(killers) >= too_many_killers and not any_done:
        raise InputError(
            f"each of the {len(killers)} tasks {killers[-1][1].how} and none succeeded, so the cause is not a single "
            "task; perhaps there is too little memory."
        )
    with closing(_Worker(function)) as worker:
        worker.wait_for_start()
    yield from killers


def run_alone(function: Callable[[T], R], task: T, seconds: float, stopping: Event) -> R | Killed:
    """Apply ``function`` to one task in a process of its own, which ends when the task has taken too long.

    Args:
        function: an importable function, or a ``partial`` of one.
        task: its argument.
        seconds: the longest time that it may take.
        stopping: ends the process when it is set.

    Raises:
        InputError: the process does not start.
        OSError: raised by ``function``.
    """
    with closing(_Worker(function)) as worker:
        worker.wait_for_start()
        worker.give(task, seconds)
        while not wait([worker.channel], _SECONDS_BETWEEN_LOOKS):
            if stopping.is_set() or worker.deadline <= time.monotonic():
                worker.give_up()
        return worker.hear()  # type: ignore[no-any-return]


def _round(function: Callable[[T], R], waiting: deque[T], workers: int) -> Generator[tuple[T, R | Killed]]:
    """Yield results of the ``waiting`` tasks; stop early if too many workers die."""
    crew: list[_Worker] = []
    deaths_left = 2 * workers
    try:
        crew.extend(_Worker(function) for _ in range(min(workers, len(waiting))))
        while crew:
            for worker in _ready_workers(crew):
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


def _ready_workers(crew: "list[_Worker]") -> "list[_Worker]":
    """Wait until workers have answered, died or passed their deadline; the latter are killed."""
    first = min(worker.deadline for worker in crew)
    heard = wait([worker.channel for worker in crew], max(0.0, first - time.monotonic()))
    late = [worker for worker in crew if worker.channel not in heard and worker.deadline <= time.monotonic()]
    for worker in late:
        worker.give_up()
    return [worker for worker in crew if worker.channel in heard or worker in late]


class _Worker:
    """A process that applies ``function`` to one task at a time; ``task`` holds the current one or is empty."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.task: tuple[Any, ...] = ()
        self.deadline = time.monotonic() + SECONDS_TO_START
        self._has_started = False
        self._gave_up = False
        self._seconds = SECONDS_TO_START
        try:
            self._errors = TemporaryFile()  # noqa: SIM115 - closed with the process
            self.channel, theirs = Pipe()
            path = [entry for entry in sys.path if isinstance(entry, str)]
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - the program is ours
                    [sys.executable, "-c", _PROGRAM.format(path=path, channel=theirs.fileno())],
                    **_inheriting(theirs),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors,
                )
        except OSError as error:
            raise InputError(f"a worker process cannot be started ({error.strerror}).") from error
        self._send(function)

    def give(self, task: Any, seconds: float | None = None) -> None:
        """Send a task to the process, which may take ``SECONDS_A_TASK`` unless ``seconds`` are given."""
        self.task = (task,)
        self._seconds = SECONDS_A_TASK if seconds is None else seconds
        self.deadline = time.monotonic() + self._seconds
        self._send(task)

    def _send(self, what: Any) -> None:
        with suppress(ConnectionError):  # it has died, which `hear` reports
            self.channel.send(what)

    def hear(self) -> Any:
        """Receive the result of the task, None from a worker that has just started, or Killed.

        Raises:
            InputError: the worker died before it received a task.
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
        """Wait until the process has started; raise InputError if it does not."""
        while not self._has_started:
            for worker in _ready_workers([self]):
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
                f"a worker process died during startup ({ending}{': ' if said else ''}{said}); perhaps there is too "
                "little memory, or the installation is damaged."
            )
        if self._gave_up:
            return Killed(f"takes longer than {self._seconds / 60:g} minutes")
        return Killed(f"kills the process ({ending})")

    def give_up(self) -> None:
        """Kill a process that does not answer; `hear` then reports the timeout."""
        self._gave_up = True
        self._process.kill()

    def close(self) -> None:
        """End the process and release its resources."""
        self._process.kill()
        self._process.wait()
        self.channel.close()
        self._errors.close()


def _inheriting(channel: Any) -> dict[str, Any]:
    """Options of a process that inherits one end of a pipe, a file descriptor or, on Windows, a handle."""
    if sys.platform == "win32":
        os.set_handle_inheritable(channel.fileno(), True)
        return {"startupinfo": subprocess.STARTUPINFO(lpAttributeList={"handle_list": [channel.fileno()]})}
    return {"pass_fds": [channel.fileno()]}


def _inherited(number: int) -> Any:
    """The end of a pipe with this file descriptor or handle."""
    if sys.platform == "win32":
        from multiprocessing.connection import PipeConnection

        return PipeConnection(number)
    return Connection(number)


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def serve(channel_number: int) -> None:
    """Main loop of a worker: receive the function, report the start, then answer one task at a time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process decides when to stop
    channel = _inherited(channel_number)
    function = channel.recv()
    channel.send(None)
    tasks: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_receive, args=(channel, tasks), daemon=True).start()
    while True:
        channel.send(_answer(function, tasks.get()))


def _receive(channel: Any, tasks: SimpleQueue[Any]) -> None:
    """Queue received tasks, and exit immediately when the parent process has ended."""
    try:
        while True:
            tasks.put(channel.recv())
    except (EOFError, OSError):
        os._exit(1)


def _answer(function: Callable[[Any], Any], task: Any) -> Any:
    """The result of the function, or an exception that can be pickled."""
    try:
        return function(task)
    except MemoryError:
        return MemoryError()
    except OSError as error:
        return OSError(error.errno, error.strerror, error.filename) if error.errno else OSError(str(error))
    except InputError as error:
        return InputError(str(error))
    except Exception:
        return RuntimeError(f"in a worker process:\n{traceback.format_exc()}")
