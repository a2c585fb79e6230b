"""Recommenders. To add one, write a file in this package and add a line to ``RECOMMENDERS``."""

from collections.abc import Callable

from microlens.building.registry import Registry
from microlens.recommenders.als import ALS
from microlens.recommenders.base import Recommender
from microlens.recommenders.bm3 import BM3
from microlens.recommenders.bpr_mf import BPRMF
from microlens.recommenders.co_visitation import CoVisitation
from microlens.recommenders.content_knn import ContentKNN
from microlens.recommenders.deepfm import DeepFM
from microlens.recommenders.dssm import DSSM
from microlens.recommenders.ease import EASE
from microlens.recommenders.esasrec import ESASRec
from microlens.recommenders.fease import FEASE
from microlens.recommenders.fmlp import FMLP
from microlens.recommenders.freedom import FREEDOM
from microlens.recommenders.fusion import Fusion
from microlens.recommenders.grcn import GRCN
from microlens.recommenders.gru4rec import GRU4Rec
from microlens.recommenders.hstu import HSTU
from microlens.recommenders.item_knn import ItemKNN
from microlens.recommenders.lattice import LATTICE
from microlens.recommenders.lightgcn import LightGCN
from microlens.recommenders.markov import Markov
from microlens.recommenders.mgcn import MGCN
from microlens.recommenders.mmgcn import MMGCN
from microlens.recommenders.nextitnet import NextItNet
from microlens.recommenders.nfm import NFM
from microlens.recommenders.popularity import Popularity
from microlens.recommenders.sasrec import SASRec
from microlens.recommenders.text_knn import TextKNN
from microlens.recommenders.tiger import TIGER
from microlens.recommenders.vbpr import VBPR
from microlens.recommenders.youtube import YouTube

RECOMMENDERS: dict[str, Callable[..., Recommender]] = {
    "als": ALS,
    "bm3": BM3,
    "bpr_mf": BPRMF,
    "co_visitation": CoVisitation,
    "content_knn": ContentKNN,
    "deepfm": DeepFM,
    "dssm": DSSM,
    "ease": EASE,
    "esasrec": ESASRec,
    "fease": FEASE,
    "fmlp": FMLP,
    "freedom": FREEDOM,
    "fusion": Fusion,
    "grcn": GRCN,
    "gru4rec": GRU4Rec,
    "hstu": HSTU,
    "item_knn": ItemKNN,
    "lattice": LATTICE,
    "lightgcn": LightGCN,
    "markov": Markov,
    "mgcn": MGCN,
    "mmgcn": MMGCN,
    "nextitnet": NextItNet,
    "nfm": NFM,
    "popularity": Popularity,
    "sasrec": SASRec,
    "text_knn": TextKNN,
    "tiger": TIGER,
    "vbpr": VBPR,
    "youtube": YouTube,
}

RECOMMENDER_REGISTRY: Registry[Recommender] = Registry(
    own=RECOMMENDERS,
    kind=Recommender,
    word="recommender",
    group="microlens.recommenders",
    document="docs/recommenders.md",
)
