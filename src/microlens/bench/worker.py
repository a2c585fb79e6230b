"""A run of a table in a separate process, forked from a server process that has loaded all libraries."""

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process, util
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from threading import Lock, Thread
from types import ModuleType

from microlens.config.run_config import RunConfig
from microlens.errors import sentence_of
from microlens.runs.terminal import Console, replace_what_cannot_be_encoded

_PRELOADED = ["microlens.runs.train", "microlens.runs.list_metrics"]
_STARTING = Lock()


def start(config: RunConfig, log: Path, threads: int | None, *, fresh: bool = False) -> ForkServerProcess:
    """Start training a run in a new process; its exit status is that of the command line.

    Loading PyTorch takes seconds, so a server process loads it once and every run is forked from it. Runs end with the
    process that started them, even if it is killed. They do not load the main script, so scripts need no main guard.

    Args:
        config: the run's configuration.
        log: file for the output of the run.
        threads: number of processor threads of the run; all if None.
        fresh: delete the files of an earlier run in the run folder.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    arguments = (config.model_dump_json(), Path.cwd(), dict(os.environ), log, threads, fresh)
    process = context.Process(target=_train, args=arguments)
    with _without_main_script():
        process.start()
    return process


@contextmanager
def _without_main_script() -> Iterator[None]:
    """Keep a process that is started within from importing the main script, as multiprocessing would have it do."""
    with _STARTING:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _train(config: str, folder: Path, environment: dict[str, str], log: Path, threads: int | None, fresh: bool) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(folder)
    os.environ.update(environment, COLUMNS="120")
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    replace_what_cannot_be_encoded()
    status = _run(RunConfig.model_validate_json(config, strict=True), threads, fresh)
    sys.stdout.flush()
    sys.stderr.flush()
    util._run_finalizers(0)  # type: ignore[attr-defined]  # removes semaphores created by libraries
    os._exit(status)  # immediately: exit handlers of libraries may hang in a forked process


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _run(config: RunConfig, threads: int | None, fresh: bool) -> int:
    import torch

    from microlens.runs.list_metrics import summarise
    from microlens.runs.train import train

    if threads:
        torch.set_num_threads(threads)
    try:
        train(config, fresh=fresh, progress=True)
        summarise(config.output)
    except BaseException as error:
        sentence = sentence_of(error)
        if sentence is None:
            traceback.print_exc()
            return 1
        Console(stderr=True).print(f"microlens: {sentence}")
        return 2
    return 0
