"""The latest scores of the models, because a history stays the same when a video is skipped."""

import threading
from collections import OrderedDict

from microlens.feed.served_model import Float32, ServedModel

_BYTES = 64 * 2**20
_Key = tuple[str, int, tuple[int, ...]]


class ScoreCache:
    """Keeps scores by model and history, as many as fit into a few dozen megabytes; threads may share it."""

    def __init__(self) -> None:
        self._scores: OrderedDict[_Key, Float32] = OrderedDict()
        self._changing = threading.Lock()

    def scores(self, model: ServedModel, history: list[int]) -> Float32:
        """The scores of a model after a history, which must not be changed; see :meth:`ServedModel.scores`."""
        key = (model.id, len(model.rows), tuple(history))
        with self._changing:
            if key in self._scores:
                self._scores.move_to_end(key)
                return self._scores[key]
        scores = model.scores(history)
        with self._changing:
            self._scores[key] = scores
            while len(self._scores) * scores.nbytes > _BYTES and len(self._scores) > 1:
                self._scores.popitem(last=False)
        return scores
