"""The faults that recommenders are known for, planted one by one: each turns a check red that is green without it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from microlens.data import holdout, split
from microlens.data.batches import Batch
from microlens.data.protocol import Protocol
from microlens.data.split import Split, make_split
from microlens.evaluation import metrics, significance
from microlens.recommenders import attention, graph, sasrec
from microlens.testing import RecommenderContract
from microlens.testing.models import ready_recommender
from microlens.testing.worlds import small_split
from microlens.training.trainer import Trainer
from tests.conftest import random_sequences
from tests.data import test_holdout, test_split
from tests.evaluation import test_metrics, test_significance
from tests.recommenders import test_collaborative
from tests.training import test_losses, test_trainer

Check = Callable[[], None]


def red(check: Check) -> None:
    with pytest.raises(AssertionError):
        check()


def test_gradients_that_are_not_zeroed(make_dataset: test_trainer.MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> None:
        test_trainer.test_step_equals_a_step_written_by_hand(make_dataset, monkeypatch, items=20, by_rows=False)

    check()
    build = Trainer.__init__

    def keep_gradients(self: Trainer, *arguments: Any, **options: Any) -> None:
        build(self, *arguments, **options)
        self.optimizer.zero_grad = lambda set_to_none=True: None  # type: ignore[method-assign]

    monkeypatch.setattr(Trainer, "__init__", keep_gradients)
    red(check)


def test_a_training_target_one_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> None:
        test_losses.test_distinct_items_equal_all_slots(0, False)

    check()
    right = Batch.target_slots

    def the_item_just_read(self: Batch) -> tuple[Tensor, Tensor, Tensor]:
        rows, positions, _ = right(self)
        return rows, positions, self.slots[rows, positions]

    monkeypatch.setattr(Batch, "target_slots", the_item_just_read)
    red(check)


def test_a_held_out_target_one_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = random_sequences(12, 20)
    interactions, protocol = test_split.interactions_of(sequences), Protocol()

    def check() -> None:
        test_split.assert_equals_loop(make_split(interactions, protocol), interactions, sequences, protocol)

    check()
    monkeypatch.setattr(Split, "targets", lambda self, part: self.inputs(part, self.target_users(part))[:, -1])
    red(check)


def test_attention_to_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> None:
        model = ready_recommender({"name": "sasrec"}, small_split())
        RecommenderContract().test_the_future_does_not_leak(model)

    check()

    def everything(history: Tensor, heads: int) -> Tensor:
        visible = (history > 0)[:, :, None].expand(-1, -1, history.shape[1])
        return torch.where(visible, 0.0, attention.HIDDEN).repeat(heads, 1, 1)

    monkeypatch.setattr(sasrec, "attention_mask", everything)
    red(check)


def test_a_history_that_is_ranked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    test_metrics.test_seen_items_do_not_count()
    right = test_metrics.rank_of_target
    monkeypatch.setattr(
        test_metrics, "rank_of_target", lambda scores, targets, seen: right(scores, targets, torch.zeros_like(seen))
    )
    red(test_metrics.test_seen_items_do_not_count)


@pytest.mark.parametrize(("owner", "name"), [(graph, "_drop_cached"), (graph.GraphRecommender, "train")])
def test_a_stale_graph_cache(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check = test_collaborative.test_what_was_propagated_is_forgotten_with_the_weights_it_came_from
    check()
    stale = {"_drop_cached": lambda model, keys: None, "train": nn.Module.train}
    monkeypatch.setattr(owner, name, stale[name])
    red(check)


def test_a_future_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    check = test_holdout.test_global_time_knows_nothing_of_what_comes_later
    check()
    monkeypatch.setitem(holdout.HOLDOUTS, "global-time", holdout.leave_one_out)
    red(check)


def test_a_cold_item_that_is_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    check = test_holdout.test_cold_items_have_no_interaction_in_train
    check()
    monkeypatch.setitem(holdout.HOLDOUTS, "cold-items", holdout.random_share)
    red(check)


def test_validation_items_that_are_known_in_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    check = test_holdout.test_random_holds_out_a_tenth_and_at_least_one
    check()
    monkeypatch.setattr(split, "ONE_AFTER_ANOTHER", tuple(holdout.HOLDOUTS))
    red(check)


def test_an_ideal_of_one_target_where_there_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    check = test_metrics.test_metrics_of_several_targets_agree_with_an_independent_library
    check()
    right = metrics.ndcg

    def of_one(ranks: metrics.UserRanks, cutoff: int) -> metrics.Floats:
        return right(metrics.UserRanks(ranks.ranks, ranks.starts, np.ones_like(ranks.counts)), cutoff)

    monkeypatch.setitem(metrics.BY_NAME, "NDCG", of_one)
    red(check)


def test_targets_resampled_in_place_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    check = test_metrics.test_intervals_of_several_targets_resample_users
    check()
    right = metrics.user_values
    monkeypatch.setattr(metrics, "user_values", lambda metric, ranks, users=None: right(metric, ranks))
    red(check)


def test_seeds_that_are_left_out_of_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> None:
        test_significance.test_rows_of_equal_mean_differ_about_one_time_in_twenty((3, 3), 0.065)

    check()
    monkeypatch.setattr(significance, "_variance_between_seeds", lambda values: 0.0)
    red(check)
