"""The models of a feed: assignment of people to them, interleaving, replacing one and going back."""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from microlens.errors import InputError
from microlens.feed.served_model import ServedModel


class Models:
    """The models that are served, by arm: the name that a model keeps when it is replaced.

    A request reads ``serving`` once and works with those models to its end, so that no request sees a change. Every
    change raises ``version``.

    Args:
        models: one for each arm, which is named by its run folder.
        interleave: let all models choose in turn for every person, instead of one for each person.
        seed: seed of the assignment.

    Raises:
        InputError: two run folders have the same name.
    """

    def __init__(self, models: Sequence[ServedModel], *, interleave: bool = False, seed: int = 0) -> None:
        self.serving = {model.name: model for model in models}
        self.version = 0
        if len(self.serving) < len(models):
            raise InputError("two run folders have the same name, which exposures could not tell apart; rename one.")
        self.interleave = interleave and len(models) > 1
        self._former: dict[str, ServedModel] = {}
        self._seed = seed
        self._changing = threading.Lock()

    @property
    def arms(self) -> list[str]:
        """The names of the arms."""
        return list(self.serving)

    def arm_of(self, person: str) -> str | None:
        """The arm that a person is assigned to by a hash; None if the models are interleaved."""
        if self.interleave:
            return None
        digest = hashlib.sha256(f"{self._seed}:{person}".encode()).digest()
        return self.arms[int.from_bytes(digest[:8]) % len(self.arms)]

    def next_arms(self, arm: str | None, picks: Counter[str]) -> list[str]:
        """The arms of which one chooses the next item, each with the same probability.

        That is the arm of the person, or, in interleaving, every arm that has chosen least often so far: of two models,
        one is drawn, then the other one follows (team draft).

        Source: Radlinski, Kurup and Joachims, How does clickthrough data reflect retrieval quality? (CIKM 2008);
        for more than two models: Schuth et al., Multileaved comparisons for fast online evaluation (CIKM 2014).
        """
        if not self.interleave:
            return [arm if arm in self.serving else self.arms[0]]
        fewest = min(picks[name] for name in self.arms)
        return [name for name in self.arms if picks[name] == fewest]

    def replace(self, arm: str, model: ServedModel) -> None:
        """Serve another model in an arm; the former one is kept for :meth:`back`.

        Raises:
            InputError: there is no such arm.
        """
        with self._changing:
            self._former[arm] = self._serving(arm)
            self.serving = {**self.serving, arm: model}
            self.version += 1

    def back(self, arm: str) -> ServedModel:
        """Serve the former model of an arm again; doing this twice changes nothing.

        Raises:
            InputError: there is no such arm, or no former model.
        """
        with self._changing:
            current, former = self._serving(arm), self._former.get(arm)
            if former is None:
                raise InputError(f"the model of {arm} has not been replaced, so there is none to go back to.")
            self._former[arm] = current
            self.serving = {**self.serving, arm: former}
            self.version += 1
            return former

    def change(self, function: Callable[[ServedModel], ServedModel]) -> None:
        """Apply a function to every model, the former ones included."""
        with self._changing:
            self._former = {arm: function(model) for arm, model in self._former.items()}
            self.serving = {arm: function(model) for arm, model in self.serving.items()}
            self.version += 1

    @property
    def all(self) -> list[ServedModel]:
        """The models that are served and the former ones."""
        return [*self.serving.values(), *self._former.values()]

    @property
    def former(self) -> dict[str, str]:
        """The id of the former model of each arm that has one."""
        return {arm: model.id for arm, model in self._former.items()}

    def arm(self, name: str | None) -> str:
        """The arm with a name, or the only one.

        Raises:
            InputError: there is no such arm, or there are several and none is named.
        """
        if name is None and len(self.arms) > 1:
            raise InputError(f"the feed serves {', '.join(self.arms)}; say which is meant.")
        self._serving(name or self.arms[0])
        return name or self.arms[0]

    def _serving(self, arm: str) -> ServedModel:
        if arm not in self.serving:
            raise InputError(f"there is no model '{arm}'; the feed serves {', '.join(self.arms)}.")
        return self.serving[arm]
