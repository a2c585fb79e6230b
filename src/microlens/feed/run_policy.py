"""The policy of a run that is served without exploration."""

from collections.abc import Iterable
from pathlib import Path

from microlens.feed.catalogue import Catalogue
from microlens.feed.chooser import Chooser
from microlens.feed.database import Row
from microlens.feed.decisions import Decision
from microlens.feed.item_counts import ItemCounts
from microlens.feed.models import Models
from microlens.feed.person import Person, Session
from microlens.feed.served_model import ServedModel
from microlens.feed.settings import ExplorationSettings, FeedSettings


class RunPolicy:
    """The probability with which a run would have chosen the item of a decision.

    Args:
        run: the run folder.
        dataset: folder of its dataset, if that was moved.
        settings: settings of the feed, of which exploration is left out.

    Raises:
        InputError: the run cannot be served.
    """

    def __init__(self, run: Path, dataset: Path | None, settings: FeedSettings) -> None:
        self._settings = settings.model_copy(update={"exploration": ExplorationSettings(share=0.0)})
        model = ServedModel.open(run, dataset)
        self._catalogue = Catalogue(model.dataset, None, self._settings)
        counts = ItemCounts(self._catalogue, 0)
        self._chooser = Chooser(self._catalogue, Models([model]), counts, self._settings)

    def apply_rules(self, rules: Iterable[Row]) -> None:
        """Leave out the items that are taken down; a pin decides without a policy."""
        self._catalogue.apply_rules([{**rule, "pin": None} for rule in rules])

    def __call__(self, decision: Decision) -> float:
        """The probability of the item of a decision; 0 if the dataset of the run does not have it."""
        number = self._catalogue.number(decision.item)
        if number is None:
            return 0.0
        person = Person(decision.person, None, self._settings.feedback)
        person.history = self._numbers(decision.history)
        person.shown = dict.fromkeys(self._numbers(decision.shown))
        return self._chooser.probability(number, person, Session(decision.session, decision.adult))

    def _numbers(self, items: Iterable[str]) -> list[int]:
        return [number for number in map(self._catalogue.number, items) if number is not None]
