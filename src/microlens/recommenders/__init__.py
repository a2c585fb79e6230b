"""Recommenders: what ranks items for a user. A new one is one file and one line here."""

from collections.abc import Callable

from microlens.recommenders.als import ALS
from microlens.recommenders.base import Recommender
from microlens.recommenders.bpr_mf import BPRMF
from microlens.recommenders.co_visitation import CoVisitation
from microlens.recommenders.content_knn import ContentKNN
from microlens.recommenders.ease import EASE
from microlens.recommenders.gru4rec import GRU4Rec
from microlens.recommenders.item_knn import ItemKNN
from microlens.recommenders.markov import Markov
from microlens.recommenders.nextitnet import NextItNet
from microlens.recommenders.popularity import Popularity
from microlens.recommenders.sasrec import SASRec

RECOMMENDERS: dict[str, Callable[..., Recommender]] = {
    "als": ALS,
    "bpr_mf": BPRMF,
    "co_visitation": CoVisitation,
    "content_knn": ContentKNN,
    "ease": EASE,
    "gru4rec": GRU4Rec,
    "item_knn": ItemKNN,
    "markov": Markov,
    "nextitnet": NextItNet,
    "popularity": Popularity,
    "sasrec": SASRec,
}
