"""The truth of a synthetic release: who likes what."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel
from scipy.special import expit

from microlens.errors import InputError
from microlens.files.json_files import read_json

Floats = npt.NDArray[np.float64]
WORLD = "world.json"
INDIFFERENT = 4.5
"""The utility at which an item is liked with probability 1/2: more than any attribute adds alone, less than two do."""


class _World(BaseModel):
    """What is read of ``world.json``."""

    weights: dict[str, float]
    items: dict[str, dict[str, Any]]
    users: dict[str, dict[str, str]]


class Truth:
    """The probability with which each user of a synthetic release likes each item.

    The utility of an item for a user is the sum of the weights of the attributes that are the user's favourites, as in
    the histories of the release; the user likes it with probability 1 / (1 + exp(4.5 - utility)).

    Args:
        world: contents of ``world.json``.
        only: an attribute, such as colour; a user then likes the items whose value is the favourite, and no others.

    Attributes:
        users: ids of the users.
    """

    def __init__(self, world: _World, only: str | None = None) -> None:
        if only is not None and only not in world.weights:
            raise InputError(f"there is no attribute '{only}'; {WORLD} has {', '.join(world.weights)}.")
        self._world, self._only = world, only
        self.users = list(world.users)
        self._uploads: dict[str, str] = {}

    @classmethod
    def load(cls, release: Path, only: str | None = None) -> Self:
        """Read the truth of a release.

        Raises:
            InputError: the release is not synthetic, its ``world.json`` is damaged, or it has no attribute ``only``.
        """
        return cls(read_json(release / WORLD, _World, "name a release made by microlens data synth"), only)

    def add_uploads(self, uploads: Mapping[str, str]) -> None:
        """Add the ids in the feed of uploaded videos, and the items of the release that they are."""
        self._uploads.update(uploads)

    @property
    def not_uploaded(self) -> list[str]:
        """The ids of the items that no upload is."""
        return [item for item in self._world.items if item not in self._uploads.values()]

    def liking(self, user: str, item: str) -> float:
        """The probability that a user likes an item of the feed.

        Raises:
            InputError: the world has no such item.
        """
        item = self._uploads.get(item, item)
        if item not in self._world.items:
            raise InputError(f"the feed shows item {item}, which {WORLD} does not have; serve the same release.")
        attributes, favourites = self._world.items[item], self._world.users[user]
        if self._only is not None:
            return float(attributes[self._only] == favourites[self._only])
        utility = sum(weight for name, weight in self._world.weights.items() if attributes[name] == favourites[name])
        return float(expit(utility - INDIFFERENT))

    def average(self, users: list[str]) -> float:
        """The mean probability over some users and all items: the like-rate of a feed that chooses at random."""
        return float(np.mean([self.liking(user, item) for user in users for item in self._world.items]))
