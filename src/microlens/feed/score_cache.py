"""The best items of the models after the latest histories, because a history stays the same when a video is skipped."""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from microlens.feed.scored_items import ScoredItems
from microlens.feed.served_model import ServedModel

_KEPT = 1024  # of a few kilobytes each
_Key = tuple[ServedModel, tuple[int, ...]]


class ScoreCache:
    """Keeps the best items by model and history; threads may share it."""

    def __init__(self) -> None:
        self._scored: OrderedDict[_Key, ScoredItems] = OrderedDict()
        self._changing = threading.Lock()

    def scored(self, model: ServedModel, history: list[int]) -> ScoredItems:
        """The scored items of a model after a history; see :meth:`ServedModel.scores`."""
        key = (model, tuple(history))
        with self._changing:
            if key in self._scored:
                self._scored.move_to_end(key)
                return self._scored[key]
        scored = ScoredItems.of_model(model, history)
        with self._changing:
            self._scored[key] = scored
            if len(self._scored) > _KEPT:
                self._scored.popitem(last=False)
        return scored

    def keep(self, models: Iterable[ServedModel]) -> None:
        """Drop what others than these models have scored; it would hold the others in memory."""
        kept = set(models)
        with self._changing:
            for key in [key for key in self._scored if key[0] not in kept]:
                del self._scored[key]
