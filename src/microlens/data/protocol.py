"""The protocol: everything that makes two numbers comparable."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from microlens.errors import InputError

Holdout = Literal["leave-one-out", "random", "global-time", "cold-items"]
# What the protocol gained after the first reports: at these values they count for no hash, and reports stay comparable.
ADDED_LATER: dict[str, Any] = {"min_item_count": 0, "seed": 0}
MOST_HISTORY = 10_000  # items; a batch has a slot for each
MOST = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that makes two numbers comparable; the default is the protocol of the MicroLens paper.

    Users with fewer than ``min_length`` items are dropped, the others cut to their last ``max_length``, unless that is
    0; items that vanish with the cut are no candidates. ``split`` says what is held out, see
    :mod:`microlens.data.holdout`; where it draws, ``seed`` decides. Users with fewer than ``min_length - 2`` items left
    to train on are dropped as well. A model reads the last ``max_history`` items known before a target and ranks all
    items but the known ones; an item that scores as high as the target stands before it. Items that lack a kind of
    content in ``require`` (clips, covers, sound), or have fewer than ``min_item_count`` interactions, are taken out
    before all this, once.
    """

    require: tuple[str, ...] = ()
    min_length: int = 5
    max_length: int = 13
    max_history: int = 10
    split: Holdout = "leave-one-out"
    candidates: Literal["all"] = "all"
    masked: Literal["history"] = "history"
    ties: Literal["against the model"] = "against the model"
    min_item_count: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that a user of the least length has something to train on, and that no cut looks into the future.

        Raises:
            InputError: they have not, it does, or a number is out of range.
        """
        for name, most in (
            *(("max_history", MOST_HISTORY), ("seed", 2**63 - 1)),
            *((name, MOST) for name in ("min_length", "max_length", "min_item_count")),
        ):
            if getattr(self, name) > most:
                raise InputError(f"protocol.{name} is {getattr(self, name)}; it must be at most {most:,}.")
        if self.min_length < 3:
            raise InputError(f"protocol.min_length is {self.min_length}; a train, validation and test item need 3.")
        if self.max_length and self.max_length < self.min_length:
            raise InputError(
                f"protocol.max_length is {self.max_length}; it must be at least min_length = {self.min_length}, or 0 "
                "for whole histories."
            )
        if self.max_history < 1:
            raise InputError(f"protocol.max_history is {self.max_history}; at least 1 is needed.")
        if self.min_item_count < 0:
            raise InputError(f"protocol.min_item_count is {self.min_item_count}; it must be 0 or more.")
        if self.split == "global-time" and (self.max_length or self.min_item_count):
            raise InputError(
                'protocol.split is "global-time", which must not look ahead as a cut to the last items and a count of '
                "all interactions do: set protocol.max_length = 0 and protocol.min_item_count = 0."
            )

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits; two reports are comparable when theirs are equal."""
        later = {name for name, value in ADDED_LATER.items() if getattr(self, name) == value}
        content = {name: value for name, value in asdict(self).items() if name not in later}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


_HELD_OUT = {
    "leave-one-out": "The last one is to be found, the one before it chose the best epoch.",
    "random": "Of each user's, a tenth, drawn at random, are to be found, and another tenth chose the best epoch.",
    "global-time": "The last tenth of all interactions, by time, are to be found, and the tenth before them chose the "
    "best epoch; nobody knows what comes later.",
    "cold-items": "A tenth of the items, drawn at random, are to be found without any interaction with them, and "
    "another tenth chose the best epoch.",
}


def described(fields: Mapping[str, Any]) -> str:
    """A protocol in words, from its fields by name, as reports hold them."""
    cut = f"of which the last {fields['max_length']} count" if fields["max_length"] else "all of which count"
    rare = f" Items with fewer than {fields['min_item_count']} are left out." if fields.get("min_item_count") else ""
    return (
        f"Users have at least {fields['min_length']} items, {cut}.{rare} {_HELD_OUT[fields['split']]} A model reads up "
        f"to {fields['max_history']} items and ranks every item but those known of the user; ties stand against it."
    )


_WHOLE = {"max_length": 0, "max_history": 50}
NAMED_PROTOCOLS: dict[str, dict[str, Any]] = {
    "paper": {},
    "whole-histories": _WHOLE,
    "random": {"split": "random", **_WHOLE},
    "global-time": {"split": "global-time", **_WHOLE},
    "cold-items": {"split": "cold-items", **_WHOLE},
}
"""Protocols by the names that ``microlens bench --protocol`` takes: what each sets beside the defaults."""
