"""Contract tests for recommenders."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import nn

from microlens.config.run_config import RunConfig
from microlens.data.batches import ItemBatch
from microlens.data.split import Split
from microlens.recommenders import RECOMMENDER_REGISTRY
from microlens.recommenders.base import Recommender
from microlens.runs.run import load
from microlens.runs.train import train
from microlens.testing import worlds
from microlens.testing.models import all_scores, build_recommender, encode, ready_recommender
from microlens.testing.worlds import L, N
from microlens.training import checkpoint

Answer = Literal["order", "taste", "nothing"]

TRAINING: dict[str, Any] = {"epochs": 25, "batch_size": 64, "lr": 5e-3, "select": "NDCG@10", "device": "cpu"}
"""Training options of :meth:`RecommenderContract.test_learns_a_world_whose_answer_is_known`."""


def usual_answer(model: Recommender) -> Answer:
    """The default of ``RecommenderContract.learns`` for a model."""
    return "order" if model.examples == "sequences" and not model.fits_at_once else "taste"


def _options_of(model_table: Mapping[str, Any]) -> Mapping[str, inspect.Parameter]:
    """The arguments of the constructor of a model."""
    return inspect.signature(RECOMMENDER_REGISTRY.find(model_table["name"], "model.name")).parameters


def _results(model: Recommender) -> list[torch.Tensor]:
    """The states and scores of some histories, and the loss that a model defines itself."""
    catalogue, states = encode(model, worlds.histories())
    found = [states, model.score(states[:, -1], catalogue)]
    if model.defines_loss:
        found.append(model.own_loss(torch.arange(5), torch.arange(1, 6)))
    return found


class RecommenderContract:
    """Tests of one recommender; subclass it in a test file and set ``recommender``.

    The model uses an id encoder. By default, models trained on sequences must learn which item comes next, others which
    items a user likes; set ``learns`` to change this.

    Attributes:
        recommender: recommender class, or its name in a configuration.
        options: options of the table ``[model]``.
        learns: "order" (which item comes next), "taste" (which items users like) or "nothing" (from data without
            content).
        training: options of the table ``[train]``, if the defaults do not suit the model.
    """

    recommender: ClassVar[type[Recommender] | str]
    options: ClassVar[Mapping[str, Any]] = {}
    learns: ClassVar[Answer | None] = None
    training: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def model_table(self) -> dict[str, Any]:
        """The table ``[model]``: name and options."""
        return {"name": worlds.name_of(self.recommender), **self.options}

    @pytest.fixture
    def answer(self, model: Recommender) -> Answer:
        """What the model must learn."""
        return self.learns or usual_answer(model)

    @pytest.fixture
    def train_table(self) -> dict[str, Any]:
        """The table ``[train]`` of the run that must learn."""
        return {**TRAINING, **self.training}

    @pytest.fixture
    def split(self) -> Split:
        """The data whose sizes are passed to constructors, and on which models are fitted."""
        return worlds.small_split()

    @pytest.fixture
    def model(self, model_table: dict[str, Any], split: Split) -> Recommender:
        """The model, in eval mode."""
        return ready_recommender(model_table, split)

    def test_shapes(self, model: Recommender) -> None:
        """States are (B, L, S), scores (B, N+1)."""
        catalogue, states = encode(model, worlds.histories())
        assert states.shape[:2] == (5, L)
        assert states.shape[2] == catalogue.shape[1] or not model.dot_product
        assert model.score(states[:, -1], catalogue).shape == (5, N + 1)

    def test_scores_are_finite(self, model: Recommender) -> None:
        """No item score is NaN or infinite."""
        assert all_scores(model, worlds.histories())[:, 1:].isfinite().all()

    def test_scores_of_items_of_ones_own_are_those_among_all(self, model: Recommender) -> None:
        """``score_each`` agrees with ``score``."""
        catalogue, states = encode(model, worlds.histories())
        items = torch.randint(1, N + 1, (5, 4))
        expected = model.score(states[:, -1], catalogue).gather(1, items)
        torch.testing.assert_close(model.score_each(states[:, -1], catalogue[items]), expected)

    def test_any_items_can_be_scored(self, model: Recommender) -> None:
        """An item's score does not depend on which other items are scored."""
        catalogue, states = encode(model, worlds.histories())
        items = torch.tensor([7, 2, 11])
        expected = model.score(states[:, -1], catalogue)[:, items]
        torch.testing.assert_close(model.score(states[:, -1], catalogue[items]), expected)

    def test_scores_without_gradients_are_the_same(self, model: Recommender) -> None:
        """Scores do not depend on whether gradients are recorded."""
        catalogue, states = encode(model, worlds.histories())
        expected = model.score(states[:, -1], catalogue)
        with torch.no_grad():
            torch.testing.assert_close(model.score(states[:, -1], catalogue), expected)

    def test_the_future_does_not_leak(self, model: Recommender) -> None:
        """Replacing later items, with random vectors, does not change earlier states."""
        history = worlds.histories()
        users = torch.arange(5)
        catalogue, _ = encode(model, history)
        vectors = catalogue[history]
        expected = model.encode_users(users, history, vectors)
        for cut in range(1, L):
            other, noisy = history.clone(), vectors.clone()
            other[:, cut:] = torch.where(other[:, cut:] > 0, other[:, cut:] % N + 1, 0)
            noisy[:, cut:] = torch.randn_like(noisy[:, cut:]) * 3  # LayerNorm would cancel a constant shift
            real = history[:, :cut] > 0
            after = model.encode_users(users, other, noisy)[:, :cut]
            torch.testing.assert_close(after[real], expected[:, :cut][real], rtol=0, atol=0)

    def test_padding_does_not_matter(self, model: Recommender) -> None:
        """Vectors at padding do not change the states at items."""
        history = worlds.histories()
        catalogue, _ = encode(model, history)
        vectors = catalogue[history]
        noisy = torch.where((history > 0)[..., None], vectors, torch.randn_like(vectors) * 3)
        first, second = (model.encode_users(torch.arange(5), history, values) for values in (vectors, noisy))
        real = history > 0
        torch.testing.assert_close(first[real], second[real], rtol=0, atol=1e-6)

    def test_the_amount_of_padding_does_not_matter(self, model: Recommender) -> None:
        """Scores do not depend on the number of padding positions before a history."""
        history = worlds.histories()
        catalogue, states = encode(model, history)
        for user, length in enumerate((history > 0).sum(1).tolist()):
            expected = model.score(states[user, L - length :], catalogue)
            for padding in range(L - length):
                row = history[user : user + 1, L - length - padding :]
                _, alone = encode(model, row, torch.tensor([user]))
                torch.testing.assert_close(model.score(alone[0, padding:], catalogue), expected, rtol=1e-5, atol=1e-6)

    def test_users_without_history_do_not_disturb(self, model: Recommender, split: Split) -> None:
        """Users without items, alone or in a batch with others, have finite states and do not affect others."""
        history = worlds.histories()
        empty = torch.zeros(2, L, dtype=torch.long)
        catalogue, expected = encode(model, history)
        nobody = torch.tensor([split.num_users - 2, split.num_users - 1])
        among_others = torch.cat([empty[:1], history, empty[:1]]), torch.cat([nobody[:1], torch.arange(5), nobody[1:]])
        for read, users in ((empty, nobody), among_others):
            states = encode(model, read, users)[1]
            last = model.last_states(users, read, catalogue[read])
            assert states.isfinite().all()
            assert last.isfinite().all()
            assert model.score(last, catalogue)[:, 1:].isfinite().all()
        torch.testing.assert_close(states[1:-1, -1], expected[:, -1], rtol=0, atol=1e-6)
        torch.testing.assert_close(last[1:-1], expected[:, -1], rtol=0, atol=1e-6)

    def test_a_batch_equals_one_by_one(self, model: Recommender) -> None:
        """A user's state does not depend on the other users of the batch."""
        history = worlds.histories()
        catalogue, states = encode(model, history)
        for user in range(5):
            row = history[user : user + 1]
            alone = model.encode_users(torch.tensor([user]), row, catalogue[row])
            torch.testing.assert_close(alone[:, -1], states[user : user + 1, -1], rtol=0, atol=1e-5)

    def test_the_last_states_are_those_at_the_last_item(self, model: Recommender) -> None:
        """``last_states`` agrees with ``encode_users``."""
        history = worlds.histories()
        catalogue, states = encode(model, history)
        last = model.last_states(torch.arange(5), history, catalogue[history])
        torch.testing.assert_close(last, states[:, -1], rtol=0, atol=1e-6)

    def test_items_depend_on_themselves_alone(self, model: Recommender) -> None:
        """An item's vector does not depend on the other items of the batch."""
        together = model.encode_items(ItemBatch(items=torch.tensor([3, 7, 9])))
        alone = model.encode_items(ItemBatch(items=torch.tensor([7])))
        torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-6)

    def test_eval_mode_is_repeatable(self, model: Recommender) -> None:
        """The same input gives bitwise identical states."""
        history = worlds.histories()
        torch.testing.assert_close(encode(model, history)[1], encode(model, history)[1], rtol=0, atol=0)

    def test_dropout_is_active_in_training(self, model_table: dict[str, Any], split: Split) -> None:
        """With the option ``dropout``, results differ in training, and every dropout module has a rate and is used."""
        if "dropout" not in _options_of(model_table):
            pytest.skip("the model has no option dropout")
        model = ready_recommender({**model_table, "dropout": 0.5}, split)
        places = {name: module for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
        used: set[str] = set()
        for name, module in places.items():
            module.register_forward_hook(lambda *_, name=name: used.add(name))
        first = _results(model)
        model.train()
        assert any(not torch.equal(one, other) for one, other in zip(first, _results(model), strict=True))
        assert [name for name, module in places.items() if not module.p or name not in used] == []

    def test_the_seed_decides_everything(self, model: Recommender, model_table: dict[str, Any], split: Split) -> None:
        """A model built and fitted again with the same seed gives the same scores."""
        history = worlds.histories()
        again = all_scores(ready_recommender(model_table, split), history)
        torch.testing.assert_close(again, all_scores(model, history), rtol=0, atol=0)

    def test_another_seed_changes_nothing_unless_the_model_says_so(
        self, model: Recommender, model_table: dict[str, Any], split: Split
    ) -> None:
        """Without ``depends_on_seed``, nothing is trained and another seed gives the same scores."""
        if model.depends_on_seed:
            pytest.skip("the model depends on the seed")
        assert not any(parameter.requires_grad for parameter in model.parameters())
        history = worlds.histories()
        other = all_scores(ready_recommender(model_table, split, seed=2), history)
        torch.testing.assert_close(other, all_scores(model, history), rtol=0, atol=0)

    def test_only_the_train_part_is_read(self, model: Recommender, model_table: dict[str, Any], split: Split) -> None:
        """Other validation and test items do not change scores; if ``fits_at_once``, another train part does."""
        history = worlds.histories()
        scores = all_scores(model, history)
        unchanged = all_scores(ready_recommender(model_table, worlds.with_other_targets(split)), history)
        torch.testing.assert_close(unchanged, scores, rtol=0, atol=0)
        if model.fits_at_once:
            changed = all_scores(ready_recommender(model_table, worlds.with_another_train_part(split)), history)
            assert not torch.equal(changed, scores)

    def test_a_state_dict_brings_everything_back(
        self, model: Recommender, model_table: dict[str, Any], split: Split, tmp_path: Path
    ) -> None:
        """A new model gives the same scores after loading the saved state dict."""
        history = worlds.histories()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model.load_state_dict(model.state_dict())  # clears memoized results
        path = tmp_path / "model.safetensors"
        checkpoint.save(path, checkpoint.with_prefix("model", model.state_dict()), {})
        other = build_recommender(model_table, split).eval()
        checkpoint.load_model(other, checkpoint.load(path)[0], path)
        assert other.fits(split)
        torch.testing.assert_close(all_scores(other, history), all_scores(model, history), rtol=0, atol=0)

    def test_the_penalty_is_a_finite_scalar(self, model: Recommender) -> None:
        """The penalty that a step adds to its loss is a scalar, finite and not negative, and so are its gradients."""
        model.train()
        penalty = model.penalty(torch.arange(5), torch.tensor([2, 7, 11]))
        assert penalty.shape == ()
        assert penalty.isfinite()
        assert penalty >= 0
        if penalty.requires_grad:
            penalty.backward()  # type: ignore[no-untyped-call]
            gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
            assert all(gradient.isfinite().all() for gradient in gradients)

    def test_gradients_reach_every_parameter(self, model: Recommender) -> None:
        """Every trained parameter of the model has a nonzero gradient."""
        model.train()
        catalogue, states = encode(model, worlds.histories())
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        if not trained:
            pytest.skip("the model has no parameters to train")
        items = torch.arange(1, N + 1)
        terms = [model.score(states[:, -1], catalogue).square().sum()]
        terms += [vectors.square().sum() for _, vectors in model.side_vectors(items)]
        if model.defines_loss:
            terms.append(model.own_loss(torch.arange(5), items[:5]))
        torch.stack(terms).sum().backward()  # type: ignore[no-untyped-call]
        silent = [name for name, parameter in trained.items() if parameter.grad is None or not parameter.grad.any()]
        assert silent == []

    def test_learns_a_world_whose_answer_is_known(
        self, model_table: dict[str, Any], train_table: dict[str, Any], answer: Answer, tmp_path: Path
    ) -> None:
        """A trained run reaches the expected metrics on data with a known answer, and again after loading."""
        dataset = worlds.write_dataset(tmp_path, worlds.ring_walks() if answer == "order" else worlds.tastes())
        parameters = _options_of(model_table)
        without_dropout = {"dropout": 0.0} if "dropout" in parameters else {}
        config = RunConfig.model_validate(
            {
                "dataset": dataset,
                "output": tmp_path / "run",
                "model": {"dim": 32, **without_dropout, **model_table},
                **({"encoder": {"name": "id"}} if "item_encoder" in parameters else {}),
                "train": train_table,
            }
        )
        report = train(config)
        metrics = report.metrics["test"]["all"]
        if answer == "order":
            assert metrics["NDCG@10"] > 0.95
        elif answer == "taste":
            assert metrics["HR@10"] > 0.95
        assert load(config.output).evaluate()["metrics"] == report.metrics
