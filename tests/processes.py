"""Python in processes of their own, forked from one that has loaded PyTorch, which takes every new process seconds.

What depends on which modules a process has loaded, or on how it starts, needs ``subprocess``.
"""

import os
import runpy
import shutil
import subprocess
import sys
import traceback
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from tempfile import mkdtemp

from microlens.bench import worker

# Of the command line only libraries: its console reads the width of the terminal when it is loaded.
PRELOADED = [
    *worker._PRELOADED,
    "microlens.runs.run",
    "microlens.download.release",
    "microlens.feed.server.running",
    "typer.main",
    "rich.table",
]


class PythonProcess:
    """``python ARGUMENTS`` with ``-m MODULE``, ``-c CODE`` or a file, as ``subprocess.Popen`` starts it.

    Args:
        arguments: what follows ``python``.
        folder: working folder; by default, that of this process.
        environment: all variables; by default, those of this process. One thread computes in any case.
    """

    def __init__(
        self,
        arguments: Sequence[object],
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.args = [str(argument) for argument in arguments]
        self._said = Path(mkdtemp())
        weakref.finalize(self, shutil.rmtree, self._said, ignore_errors=True)
        context = get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        variables = dict(os.environ if environment is None else environment)
        target = (self.args, folder or Path.cwd(), variables, self._said)
        self._process = context.Process(target=_python, args=target)
        self._process.start()

    def poll(self) -> int | None:
        """The exit status, or minus the signal that ended the process; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send the process a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kill the process as ``kill -9`` does."""
        self._process.kill()

    def terminate(self) -> None:
        """Ask the process to end, as ``kill`` does."""
        self._process.terminate()

    def said(self, stream: int) -> str:
        """What the process has written to standard output (1) or error (2) until now."""
        path = self._said / str(stream)
        return path.read_text() if path.exists() else ""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process; its exit status.

        Raises:
            subprocess.TimeoutExpired: it runs for longer than ``timeout`` seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end of the process; what it wrote to standard output and error."""
        self.wait(timeout)
        return self.said(1), self.said(2)


def run_python(
    arguments: Sequence[object], *, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run Python to its end; arguments as :class:`PythonProcess`, result as ``subprocess.run``."""
    process = PythonProcess(arguments, folder=folder, environment=environment)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.wait(), out, err)


def _python(arguments: list[str], folder: Path, environment: dict[str, str], said: Path) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    for number in (1, 2):
        with (said / str(number)).open("wb") as file:
            os.dup2(file.fileno(), number)
    status = _status(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # immediately: exit handlers of libraries may hang in a forked process


def _status(arguments: list[str]) -> int:
    import torch

    torch.set_num_threads(1)
    option, *rest = arguments
    try:
        if option == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif option == "-c":
            sys.argv = ["-c", *rest[1:]]
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = arguments
            runpy.run_path(option, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)  # noqa: T201 - as Python does
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
