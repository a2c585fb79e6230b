"""Recommenders: what ranks items for a user. A new one is one file and one line here."""

from collections.abc import Callable

from microlens.recommenders.base import Recommender
from microlens.recommenders.popularity import Popularity
from microlens.recommenders.sasrec import SASRec

RECOMMENDERS: dict[str, Callable[..., Recommender]] = {
    "popularity": Popularity,
    "sasrec": SASRec,
}
