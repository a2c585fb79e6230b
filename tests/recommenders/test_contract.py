"""Every recommender of the package keeps the contract that the package ships."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from microlens.data.item_words import ItemWords, item_words
from microlens.data.split import Split
from microlens.recommenders import RECOMMENDERS
from microlens.recommenders.base import Recommender
from microlens.recommenders.fitted import Fitted
from microlens.testing import RecommenderContract
from microlens.testing.recommender import TRAINING, Answer, usual_answer
from microlens.testing.worlds import D, N, histories

ALONE = [name for name in RECOMMENDERS if name != "fusion"]  # which has tests of its own, in test_fusion.py
FITTED = [name for name in ALONE if issubclass(RECOMMENDERS[name], Fitted)]  # type: ignore[arg-type]
FROM_THE_LIBRARY = {"als", "bpr_mf", "item_knn"}
UNTRAINED = {"popularity", "content_knn", "text_knn"}
READ_FEATURES = {"bm3", "content_knn", "fease", "freedom", "lattice", "mgcn", "vbpr"}
FEW_STEPS = {"epochs": 6, "batch_size": 256, "lr": 0.03}  # enough for slower models over the graph
TRAINED_OTHERWISE: dict[str, dict[str, Any]] = {
    "bm3": {**FEW_STEPS, "loss": "own"},
    "tiger": {"loss": "likelihood", "epochs": 8, "batch_size": 16},
    **dict.fromkeys(("freedom", "lattice", "mgcn"), FEW_STEPS),
}
LEARNS: dict[str, Answer] = {
    "text_knn": "nothing",
    "popularity": "nothing",
    "content_knn": "nothing",
    "youtube": "taste",  # reads a mean
    "markov": "order",
    "co_visitation": "order",
}


def requires_the_library(name: str) -> None:
    if name in FROM_THE_LIBRARY:
        pytest.importorskip("implicit", reason="implicit is not installed (make setup)")


def table_of(name: str, folder: Path) -> dict[str, Any]:
    """``[model]`` for a recommender by name; ``folder`` takes the files that it reads."""
    if name == "tiger":
        small = {"layers": 1, "heads": 2, "head_size": 8, "feed_forward": 64, "user_tokens": 0}
        return {"name": name, "codes": str(write_codes(folder)), **small}
    if name in READ_FEATURES:
        return {"name": name, "features": str(write_features(folder))}
    return {"name": name, "dim": 4} if name == "als" else {"name": name}  # which with as many factors as items copies


def write_features(folder: Path) -> Path:
    """Random features of the N items."""
    np.save(folder / "features.npy", np.random.default_rng(0).normal(size=(N, D)).astype(np.float32))
    np.save(folder / "features.ids.npy", 10 * np.arange(1, N + 1))
    return folder / "features.npy"


def write_codes(folder: Path) -> Path:
    """Codes of the N items: a digit of base 6, and what is left."""
    items = np.random.default_rng(0).permutation(N)
    np.save(folder / "codes.npy", np.stack([items // 6, items % 6], 1))
    np.save(folder / "codes.ids.npy", 10 * np.arange(1, N + 1))
    return folder / "codes.npy"


class TestEveryRecommender(RecommenderContract):
    @pytest.fixture(params=ALONE)
    def name(self, request: pytest.FixtureRequest) -> str:
        requires_the_library(request.param)
        return str(request.param)

    @pytest.fixture(autouse=True)
    def _titles(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Datasets of interactions alone have titles, too."""

        def of_any(titles: list[str], least: int) -> ItemWords:
            return item_words([title or f"word {item % 7}" for item, title in enumerate(titles)], least)

        monkeypatch.setattr("microlens.encoders.words.item_words", of_any)

    @pytest.fixture
    def model_table(self, name: str, tmp_path: Path) -> dict[str, Any]:
        return table_of(name, tmp_path)

    @pytest.fixture
    def train_table(self, name: str) -> dict[str, Any]:
        return {**TRAINING, **TRAINED_OTHERWISE.get(name, {})}

    @pytest.fixture
    def answer(self, name: str, model: Recommender) -> Answer:
        return LEARNS.get(name) or usual_answer(model)

    def test_number_0_scores_as_an_item_without_interactions(self, name: str, model: Recommender, split: Split) -> None:
        """So that counts rank items outside the catalogue among it."""
        if not isinstance(model, Fitted) or name in READ_FEATURES or model.known_users_only:
            pytest.skip("the model does not count")
        assert not split.train_counts[N]
        scores = model.scores(histories())
        torch.testing.assert_close(scores[:, 0], scores[:, N])
        assert scores.any()

    def test_what_is_trained_has_parameters(self, name: str, model: Recommender) -> None:
        trained = any(parameter.requires_grad for parameter in model.parameters())
        assert trained == (name not in UNTRAINED and name not in FITTED)
