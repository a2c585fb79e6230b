"""The engine of a Ray cluster."""

import logging
import os
import socket
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from microlens.engines.base import ITEMS_PER_SHARD, Engine, work_on_shard
from microlens.errors import InputError
from microlens.media.processes import Killed

T = TypeVar("T")
R = TypeVar("R")

_ATTEMPTS = 3
_SECONDS_TO_ANSWER = 10


class RayEngine(Engine):
    """Ray Data jobs on a cluster, one CPU per task.

    Tasks whose process or machine is lost run again. Each task applies its function to a shard of items, in a
    process of its own, so that an item that kills its process affects no other. Every machine of the cluster has this
    package installed.

    Args:
        address: ``auto`` for the cluster that this machine belongs to, ``HOST:PORT`` of its head, or None to start Ray
            on this machine for the duration of a job.

    Raises:
        InputError: Ray is not installed.
    """

    def __init__(self, address: str | None = None) -> None:
        if find_spec("ray") is None:
            raise InputError("the engine ray needs the package ray; install it with: pip install 'microlens[scale]'")
        self.address = address

    def map_items(self, function: Callable[[T], R], items: Sequence[T]) -> Generator[tuple[T, R | Killed]]:
        """Apply ``function`` to each item; see :meth:`Engine.map_items`."""
        shards = [items[start : start + ITEMS_PER_SHARD] for start in range(0, len(items), ITEMS_PER_SHARD)]
        for _, results in self.map_shards(partial(work_on_shard, function), shards):
            yield from results

    def map_shards(
        self, function: Callable[[T], R], shards: Sequence[T], *, cpus: int = 1, gpus: int = 0
    ) -> Generator[tuple[T, R]]:
        """Apply ``function`` to each shard in a task with ``cpus`` and ``gpus``; see :meth:`Engine.map_shards`.

        A shard whose function raises OSError is tried three times.
        """
        if not shards:
            return
        with _quiet(), _connected(self.address):
            import ray.data

            _require_node(cpus, gpus)
            ray.data.DataContext.get_current().enable_progress_bars = False
            rows = [{"number": number, "shard": _Opaque(shard)} for number, shard in enumerate(shards)]
            job = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                partial(_run, function), num_cpus=cpus, num_gpus=gpus
            )
            try:
                for row in job.iter_rows():
                    answer = row["answer"].value
                    if isinstance(answer, Exception):
                        raise answer
                    yield shards[row["number"]], answer
            except ray.exceptions.RayError as error:
                cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
                sentence = str(cause).strip().partition("\n")[0]
                raise InputError(f"the Ray job failed: {sentence}") from None


@dataclass(frozen=True)
class _Opaque:
    """A value that Ray Data leaves as it is; it converts lists and numbers to arrays."""

    value: Any


def _run(function: Callable[[Any], Any], row: dict[str, Any]) -> dict[str, Any]:
    """Apply ``function`` to a row's shard. Errors are results, because Ray wraps exceptions in its own."""
    attempts = Retrying(
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential(max=10),
        retry=retry_if_exception_type(OSError),
        reraise=True,
    )
    try:
        answer = attempts(function, row["shard"].value)
    except (InputError, OSError) as error:
        answer = error
    except Exception:
        answer = RuntimeError(f"in a Ray task:\n{traceback.format_exc()}")
    return {"number": row["number"], "answer": _Opaque(answer)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings and messages of Ray in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray.data  # here, because it configures its logger and filters

        warnings.simplefilter("ignore")
        loggers = {name: logging.getLogger(name) for name in (ray.__name__, ray.data.__name__)}
        levels = {name: logger.level for name, logger in loggers.items()}
        for logger in loggers.values():
            logger.setLevel(logging.CRITICAL)  # errors are raised
        try:
            yield
        finally:
            for name, logger in loggers.items():
                logger.setLevel(levels[name])


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to the cluster, unless this process is connected to one already."""
    import ray

    if ray.is_initialized():
        yield
        return
    if address is None:
        # Ray's monitor kills whole tasks, and repeats them; the system kills the process of the item at fault.
        os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        _require_answer(address)
        ray.init(
            address=address or "local", include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"no Ray cluster answers at '{address}' ({error}); start one with: ray start --head") from None
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str | None) -> None:
    """Raise OSError if nothing listens at ``HOST:PORT``, for which Ray would wait many minutes."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdecimal() and "://" not in host:
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_ANSWER).close()


def _require_node(cpus: int, gpus: int) -> None:
    """Raise InputError if no machine of the cluster has the resources of a task, for which Ray would wait forever."""
    import ray

    for node in ray.nodes():  # type: ignore[no-untyped-call]
        resources = node["Resources"] if node["Alive"] else {}
        if resources.get("CPU", 0) >= cpus and resources.get("GPU", 0) >= gpus:
            return
    raise InputError(f"no machine of the Ray cluster has {cpus} CPUs and {gpus} GPUs, which a task needs.")
