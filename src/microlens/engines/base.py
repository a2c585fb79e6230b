"""The interface of engines."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from microlens.media.processes import Killed, work

T = TypeVar("T")
R = TypeVar("R")

ITEMS_PER_SHARD = 32
# In a shard, so many items that kill their process, and none that succeeds, are not taken for faults of the items.
_TOO_MANY_KILLERS = 8


class Engine(ABC):
    """Applies functions to items in other processes, on this machine or on several.

    Functions are importable, or a ``partial`` of an importable one; arguments and results can be pickled. Results come
    in the order in which they are ready.
    """

    @abstractmethod
    def map_items(self, function: Callable[[T], R], items: Sequence[T]) -> Generator[tuple[T, R | Killed]]:
        """Apply ``function`` to each item; yield each item with its result.

        An item whose process dies twice yields :class:`microlens.media.processes.Killed` and does not stop the others.

        Raises:
            InputError: processes do not start, or die independently of the item; or the cluster cannot be used.
            OSError: raised by ``function``.
        """

    @abstractmethod
    def map_shards(self, function: Callable[[T], R], shards: Sequence[T]) -> Generator[tuple[T, R]]:
        """Apply ``function`` to each shard, a part of the job of seconds to minutes; yield each with its result.

        Unlike in :meth:`map_items`, an error of one shard ends the job; ``function`` protects itself from its items.

        Raises:
            InputError: the cluster cannot be used.
            Exception: raised by ``function``.
        """


def work_on_shard(function: Callable[[T], R], items: Sequence[T]) -> list[tuple[T, R | Killed]]:
    """Apply ``function`` to the items of a shard in one worker process; results as :func:`work` yields them."""
    return list(work(function, items, 1, too_many_killers=_TOO_MANY_KILLERS))
