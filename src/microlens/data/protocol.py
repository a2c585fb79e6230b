"""The evaluation protocol: all settings that must be equal for metrics to be comparable."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from microlens.errors import InputError
from microlens.files.writing import digest_of
from microlens.seeds import LARGEST_SEED

Holdout = Literal["leave-one-out", "random", "global-time", "cold-items", "given"]
# Fields added later; left out of the hash at their default, so earlier reports stay comparable.
ADDED_LATER: dict[str, Any] = {"min_item_count": 0, "seed": 0}
MOST_HISTORY = 10_000  # items; sequences in a batch are this long
MOST = 2**31 - 1
_LARGEST = {
    "min_length": MOST,
    "max_length": MOST,
    "max_history": MOST_HISTORY,
    "min_item_count": MOST,
    "seed": LARGEST_SEED,
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """All settings that make metrics comparable; the default is the protocol of the MicroLens paper.

    First, items that lack a kind of content in ``require`` (clips, covers, sound), or have fewer than
    ``min_item_count`` interactions, are removed, once. Users with fewer than ``min_length`` items are dropped, the
    others are cut to their last ``max_length`` items (0: no cut); items without remaining interactions are no
    candidates. ``split`` is the hold-out method, see :mod:`microlens.data.holdout`, and ``seed`` its random seed. Users
    with fewer than ``min_length - 2`` training items are dropped as well. Of a "given" split, users without training
    items are dropped and all items are candidates. A model reads the last ``max_history`` items known before a target
    and ranks all items except the known ones; with ``masked = "train-and-validation"``, the user's validation items are
    excluded at test, too, as in RecBole. Ties count against the target.
    """

    require: tuple[str, ...] = ()
    min_length: int = 5
    max_length: int = 13
    max_history: int = 10
    split: Holdout = "leave-one-out"
    candidates: Literal["all"] = "all"
    masked: Literal["history", "train-and-validation"] = "history"
    ties: Literal["against the model"] = "against the model"
    min_item_count: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that every user has training items and that a global-time split uses no information from the future.

        Raises:
            InputError: one of these does not hold, or a number is out of range.
        """
        self._check_words()
        self._check_numbers()
        if self.min_length < 3:
            raise InputError(f"protocol.min_length is {self.min_length}; a train, validation and test item need 3.")
        if self.max_length and self.max_length < self.min_length:
            raise InputError(
                f"protocol.max_length is {self.max_length}; it must be at least min_length = {self.min_length}, or 0 "
                "for whole histories."
            )
        if self.max_history < 1:
            raise InputError(f"protocol.max_history is {self.max_history}; at least 1 is needed.")
        if self.masked == "train-and-validation" and self.split in ONE_AFTER_ANOTHER:
            raise InputError(
                f'protocol.masked is "train-and-validation", but with protocol.split = "{self.split}" validation items '
                'are part of the history at test; accepted: "history".'
            )
        if self.split == "given" and (self.min_length, self.max_length, self.min_item_count) != (3, 0, 0):
            raise InputError(
                'protocol.split is "given", which keeps a published split as it is: set protocol.min_length = 3, '
                "protocol.max_length = 0 and protocol.min_item_count = 0."
            )
        if self.split == "global-time" and (self.max_length or self.min_item_count):
            raise InputError(
                'protocol.split is "global-time", which must not use later interactions, as a cut to the last items '
                "and a count of all interactions do: set protocol.max_length = 0 and protocol.min_item_count = 0."
            )

    def _check_words(self) -> None:
        for name, kind in get_type_hints(Protocol).items():
            accepted = get_args(kind) if get_origin(kind) is Literal else ()
            if accepted and getattr(self, name) not in accepted:
                names = ", ".join(f'"{one}"' for one in accepted)
                raise InputError(f"protocol.{name} is {getattr(self, name)!r}; accepted: {names}.")

    def _check_numbers(self) -> None:
        for name, most in _LARGEST.items():
            value: Any = getattr(self, name)
            if not hasattr(value, "__index__") or isinstance(value, bool):
                raise InputError(f"protocol.{name} is {value!r}; it must be a whole number.")
            if value > most:
                raise InputError(f"protocol.{name} is {value}; it must be at most {most:,}.")
            if value < 0:
                raise InputError(f"protocol.{name} is {value}; it must be 0 or more.")
            object.__setattr__(self, name, int(value))  # NumPy's integers have no JSON, so no hash

    @property
    def hash(self) -> str:
        """Hash of the protocol, twelve hexadecimal digits; reports are comparable if their hashes are equal."""
        later = {name for name, value in ADDED_LATER.items() if getattr(self, name) == value}
        content = {name: value for name, value in asdict(self).items() if name not in later}
        return digest_of(content)[:12]


ONE_AFTER_ANOTHER: tuple[Holdout, ...] = ("leave-one-out", "global-time")
"""Hold-out methods under which validation items precede test items, so that they are part of the history at test."""

SELECTED_BY_TRAINING: tuple[Holdout, ...] = ("global-time", "given")
"""Hold-out methods that select users by their training items only: not by later ones, or not beyond a given split."""

_HELD_OUT = {
    "leave-one-out": "The last item is the test target, the one before it the validation target.",
    "random": "A random tenth of each user's items are test targets, another tenth validation targets.",
    "global-time": "The last tenth of all interactions by time are test targets, the tenth before them validation "
    "targets; models see no later interactions.",
    "cold-items": "All interactions with a random tenth of the items are test targets, those with another tenth "
    "validation targets; models see no interactions with either.",
    "given": "Validation and test targets are those of a split that the dataset came with.",
}


def described(fields: Mapping[str, Any]) -> str:
    """Describe a protocol in words, from its fields by name as stored in reports."""
    cut = f"of which the last {fields['max_length']} are used" if fields["max_length"] else "all of which are used"
    rare = f" Items with fewer than {fields['min_item_count']} are dropped." if fields.get("min_item_count") else ""
    masked = "history"
    if fields["masked"] == "train-and-validation":
        masked = "training items and, at test, validation items"
    return (
        f"Users have at least {fields['min_length']} items, {cut}.{rare} {_HELD_OUT[fields['split']]} A model reads up "
        f"to {fields['max_history']} items and ranks all items except the user's {masked}; ties count against it."
    )


_WHOLE = {"max_length": 0, "max_history": 50}
_GIVEN = {"split": "given", "min_length": 3, "max_length": 0, "max_history": 1000}
NAMED_PROTOCOLS: dict[str, dict[str, Any]] = {
    "paper": {},
    "whole-histories": _WHOLE,
    "random": {"split": "random", **_WHOLE},
    "recbole": {"split": "random", "masked": "train-and-validation", "max_length": 0, "max_history": 1000},
    "global-time": {"split": "global-time", **_WHOLE},
    "cold-items": {"split": "cold-items", **_WHOLE},
    "given": _GIVEN,
    "given-recbole": {**_GIVEN, "masked": "train-and-validation"},
}
"""Protocols by their names in ``microlens bench --protocol``: the fields that differ from the defaults."""
