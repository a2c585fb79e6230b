"""The engine of a single machine."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from microlens.cores import available_cores
from microlens.engines.base import Engine
from microlens.media.processes import Killed, work

T = TypeVar("T")
R = TypeVar("R")


class LocalEngine(Engine):
    """Worker processes of this machine.

    Args:
        workers: number of processes; one per core by default.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or available_cores()

    def map_items(self, function: Callable[[T], R], items: Sequence[T]) -> Generator[tuple[T, R | Killed]]:
        """Apply ``function`` to each item in worker processes; see :meth:`Engine.map_items`."""
        yield from work(function, items, self.workers)

    def map_shards(self, function: Callable[[T], R], shards: Sequence[T]) -> Generator[tuple[T, R]]:
        """Apply ``function`` to each shard in threads, which wait for the processes that ``function`` starts."""
        with ThreadPoolExecutor(self.workers) as pool:
            futures = {pool.submit(function, shard): shard for shard in shards}
            try:
                for future in as_completed(futures):
                    yield futures.pop(future), future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
