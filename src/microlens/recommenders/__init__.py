"""Recommenders: what ranks items for a user. A new one is one file and one line here."""

from collections.abc import Callable

from microlens.recommenders.base import Recommender
from microlens.recommenders.gru4rec import GRU4Rec
from microlens.recommenders.nextitnet import NextItNet
from microlens.recommenders.popularity import Popularity
from microlens.recommenders.sasrec import SASRec

RECOMMENDERS: dict[str, Callable[..., Recommender]] = {
    "gru4rec": GRU4Rec,
    "nextitnet": NextItNet,
    "popularity": Popularity,
    "sasrec": SASRec,
}
