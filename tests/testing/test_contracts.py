"""The shipped contracts fail where a model breaks them: each fault turns a check red that the sound model passes."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from microlens.building.registry import path_of
from microlens.data.batches import ItemBatch
from microlens.data.split import Split
from microlens.encoders.base import ContentGroup, ItemEncoder
from microlens.recommenders.base import Recommender
from microlens.recommenders.markov import Markov
from microlens.testing import EncoderContract, RecommenderContract
from microlens.testing.encoder import built_encoder
from microlens.testing.models import ready_recommender
from microlens.testing.worlds import small_split


class Mean(Recommender):
    """The mean of what was read, through a linear layer."""

    def __init__(self, *, item_encoder: ItemEncoder, dim: int) -> None:
        super().__init__(item_encoder)
        self.output = nn.Linear(dim, dim)

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        real = (history > 0)[..., None]
        states: Tensor = self.output(torch.where(real, vectors, 0.0).cumsum(1) / real.cumsum(1).clamp(min=1))
        return states

    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        return self.encode_users(users, history, vectors)[:, -1]


class OfTheFuture(Mean):
    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        return super().encode_users(users, history, vectors) + vectors.mean(1, keepdim=True)


class OfTheBatch(Mean):
    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        states = super().encode_users(users, history, vectors)
        return states - states.mean(0)


class OfPadding(Mean):
    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        return super().encode_users(users, torch.ones_like(history), vectors)


class WithoutLimits(Mean):
    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        read = (history > 0).cumsum(1)[..., None]
        return super().encode_users(users, history, vectors) + read / read - 1


class Forgetful(Mean):
    def last_states(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        return vectors[:, -1]


class Random(Mean):
    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        return nn.functional.dropout(super().encode_users(users, history, vectors))


class OfTheCandidates(Mean):
    def score(self, users: Tensor, items: Tensor) -> Tensor:
        return super().score(users, items - items.mean(0))


class OfTwoScores(Mean):
    def score_each(self, users: Tensor, items: Tensor) -> Tensor:
        return 2 * super().score_each(users, items)


class Silent(Mean):
    def __init__(self, *, item_encoder: ItemEncoder, dim: int) -> None:
        super().__init__(item_encoder=item_encoder, dim=dim)
        self.unused = nn.Parameter(torch.ones(1))


class Unsaved(Mean):
    drawn: Tensor

    def __init__(self, *, item_encoder: ItemEncoder, dim: int) -> None:
        super().__init__(item_encoder=item_encoder, dim=dim)
        self.register_buffer("drawn", torch.zeros(dim), persistent=False)

    def encode_users(self, users: Tensor, history: Tensor, vectors: Tensor) -> Tensor:
        return super().encode_users(users, history, vectors) + self.drawn

    def fit(self, split: Split) -> None:
        self.drawn = torch.ones_like(self.drawn)

    fits_at_once = True


class Seer(Markov):
    def fit(self, split: Split) -> None:
        super().fit(split)
        self.popularity[1] = int(split.targets("test")[0])


class OfNoSeed(Mean):
    made = 0

    def __init__(self, *, item_encoder: ItemEncoder, dim: int) -> None:
        super().__init__(item_encoder=item_encoder, dim=dim)
        OfNoSeed.made += 1
        nn.init.constant_(self.output.weight, OfNoSeed.made)


def ask(check: str, tested: type[Recommender], **more: Any) -> None:
    """Run one check of the contract on a class."""
    table = {"name": path_of(tested)}
    model = ready_recommender(table, small_split())
    arguments = {"model_table": table, "split": small_split(), **more}
    method = getattr(RecommenderContract(), check)
    wanted = method.__code__.co_varnames[: method.__code__.co_argcount]
    method(model=model, **{name: value for name, value in arguments.items() if name in wanted})


FAULTS: list[tuple[type[Recommender], str]] = [
    (OfTheFuture, "test_the_future_does_not_leak"),
    (OfTheBatch, "test_a_batch_equals_one_by_one"),
    (OfPadding, "test_padding_does_not_matter"),
    (OfPadding, "test_the_amount_of_padding_does_not_matter"),
    (WithoutLimits, "test_users_without_history_do_not_disturb"),
    (Forgetful, "test_the_last_states_are_those_at_the_last_item"),
    (Random, "test_eval_mode_is_repeatable"),
    (OfTheCandidates, "test_any_items_can_be_scored"),
    (OfTwoScores, "test_scores_of_items_of_ones_own_are_those_among_all"),
    (Silent, "test_gradients_reach_every_parameter"),
    (Unsaved, "test_a_state_dict_brings_everything_back"),
    (OfNoSeed, "test_the_seed_decides_everything"),
]


@pytest.mark.parametrize(("tested", "check"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_of_a_recommender_turns_its_check_red(tested: type[Recommender], check: str, tmp_path: Any) -> None:
    ask(check, Mean, tmp_path=tmp_path)
    with pytest.raises(AssertionError):
        ask(check, tested, tmp_path=tmp_path)


def test_a_fitted_model_that_reads_targets_is_found_out() -> None:
    ask("test_only_the_train_part_is_read", Markov)
    with pytest.raises(AssertionError):
        ask("test_only_the_train_part_is_read", Seer)


class Colours(ItemEncoder):
    """The mean colour of a cover, through a linear layer."""

    needs = frozenset({"covers"})

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(3, dim)

    def forward(self, items: ItemBatch) -> Tensor:
        vectors: Tensor = self.projection(items.content["covers"].float().mean((1, 2, 3)) / 255)
        return vectors


class Wider(Colours):
    def forward(self, items: ItemBatch) -> Tensor:
        return super().forward(items).repeat(1, 2)


class OfItsCompany(Colours):
    def forward(self, items: ItemBatch) -> Tensor:
        vectors = super().forward(items)
        return vectors / vectors.norm()


class OfTheNumber(Colours):
    def forward(self, items: ItemBatch) -> Tensor:
        return super().forward(items) + items.items[:, None]


class OfAnotherKind(Colours):
    needs = frozenset({"covers", "pictures"})


class WithoutGroups(Colours):
    def content_groups(self) -> list[ContentGroup]:
        return []


class Half(Colours):
    def forward(self, items: ItemBatch) -> Tensor:
        return super().forward(items).detach() + self.projection.bias


class UnsavedColours(Colours):
    scale: Tensor

    def __init__(self, *, dim: int) -> None:
        super().__init__(dim=dim)
        self.register_buffer("scale", torch.rand(dim), persistent=False)

    def forward(self, items: ItemBatch) -> Tensor:
        return super().forward(items) * self.scale


ENCODER_FAULTS: list[tuple[type[ItemEncoder], str]] = [
    (Wider, "test_shape"),
    (OfItsCompany, "test_a_row_depends_on_its_item_alone"),
    (OfTheNumber, "test_who_reads_the_item_number_says_so"),
    (OfAnotherKind, "test_what_it_needs_exists"),
    (WithoutGroups, "test_content_parameters_are_its_own"),
    (Half, "test_gradients_reach_every_parameter"),
    (UnsavedColours, "test_a_state_dict_brings_everything_back"),
]


@pytest.mark.parametrize(("tested", "check"), ENCODER_FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_of_an_encoder_turns_its_check_red(tested: type[ItemEncoder], check: str) -> None:
    def ask_encoder(encoder: type[ItemEncoder]) -> None:
        table = {"name": path_of(encoder)}
        more = {"encoder_table": table} if check == "test_a_state_dict_brings_everything_back" else {}
        getattr(EncoderContract(), check)(built_encoder(table), **more)

    ask_encoder(Colours)
    with pytest.raises(AssertionError):
        ask_encoder(tested)


def test_without_pytest_a_sentence_says_what_to_install() -> None:
    code = "import sys; sys.modules['pytest'] = None; import microlens.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(
        "InputError: microlens.testing needs pytest; install it with: pip install pytest"
    )
