"""What a training batch is made of: examples of each kind, drawn negatives, slots; beside plain loops."""

from collections import Counter

import numpy as np
import pytest
import torch

from microlens.data.batches import Batch, Process, train_batches
from microlens.data.examples import Examples
from microlens.data.interactions import Int64, Interactions
from microlens.data.negatives import Negatives
from microlens.data.protocol import Protocol
from microlens.data.split import Split, make_split
from microlens.errors import InputError
from tests.conftest import random_sequences
from tests.training.test_losses import NoContent

LONG = Protocol(max_length=30, max_history=4)  # train parts longer than what is read


def split_of(sequences: list[list[int]], protocol: Protocol) -> Split:
    flat = np.concatenate(sequences)
    interactions = Interactions(
        offsets=np.cumsum([0, *map(len, sequences)]),
        items=flat.astype(np.int32),
        times=np.arange(len(flat)),
        user_ids=np.arange(1, len(sequences) + 1),
        item_ids=np.arange(flat.max() + 1),
    )
    return make_split(interactions, protocol)


def train_part(split: Split, user: int) -> list[int]:
    return [int(item) for item in split.sequences[split.offsets[user] : split.offsets[user + 1] - 2]]


@pytest.fixture(params=[Protocol(), LONG], ids=["paper", "long"])
def split(request: pytest.FixtureRequest) -> Split:
    return split_of(random_sequences(30, 36), request.param)


def all_rows(split: Split, kind: str) -> list[tuple[int, tuple[int, ...]]]:
    examples = Examples(split, kind)  # type: ignore[arg-type]
    users, sequence = examples.rows(np.arange(len(examples)))
    return [(int(user), tuple(map(int, row))) for user, row in zip(users, sequence, strict=True)]


def test_pairs_are_every_user_with_every_train_item(split: Split) -> None:
    expected = [(user, (item,)) for user in range(split.num_users) for item in train_part(split, user)]
    assert all_rows(split, "pairs") == expected


def test_rest_is_every_train_item_after_the_users_others(split: Split) -> None:
    expected = []
    for user in range(split.num_users):
        items = train_part(split, user)
        for place, target in enumerate(items):
            others = (items[:place] + items[place + 1 :])[-split.history_length :]
            expected.append((user, (*[0] * (split.history_length - len(others)), *others, target)))
    assert all_rows(split, "rest") == expected


def batches(split: Split, kind: str, **options: object) -> list[Batch]:
    return list(
        train_batches(split, NoContent(), batch_size=7, seed=1, epoch=0, examples=kind, **options)  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("kind", ["sequences", "pairs", "rest"])
def test_a_batch_says_where_everything_lies(split: Split, kind: str) -> None:
    seen = []
    for batch in batches(split, kind, negatives=Negatives(split, "each", 3)):
        numbers = [*batch.distinct.tolist(), 0]
        assert [[numbers[slot] for slot in row] for row in batch.slots.tolist()] == batch.sequence.tolist()
        rows, positions, slots = batch.target_slots()
        assert batch.num_targets == len(rows)
        for row, position, slot in zip(rows.tolist(), positions.tolist(), slots.tolist(), strict=True):
            assert numbers[slot] == batch.sequence[row, position + 1]
        for user, own in zip(batch.users.tolist(), batch.own.tolist(), strict=True):
            had = set(train_part(split, user))
            assert {numbers[slot] for slot in own} - {0} == had & set(numbers)
        occurrences = Counter(batch.sequence[batch.sequence > 0].tolist())
        assert batch.counts.tolist() == [occurrences[item] for item in numbers[:-1]]
        seen += batch.users.tolist()
    assert Counter(seen) == Counter(user for user, _ in all_rows(split, kind))


@pytest.mark.parametrize("kind", ["sequences", "pairs", "rest"])
def test_negatives_are_never_the_users_own(split: Split, kind: str) -> None:
    drawn = set()
    for batch in batches(split, kind, negatives=Negatives(split, "each", 5)):
        assert batch.negatives is not None
        assert batch.negatives.shape == (batch.num_targets, 5)
        rows = batch.target_slots()[0].tolist()
        for row, negatives in zip(rows, batch.distinct[batch.negatives].tolist(), strict=True):
            assert not set(negatives) & set(train_part(split, int(batch.users[row])))
            drawn |= set(negatives)
    assert drawn == set(range(1, split.num_items + 1))


def test_negatives_depend_on_seed_epoch_and_batch_alone(split: Split) -> None:
    def drawn(epoch: int, skip: int) -> list[list[int]]:
        source = train_batches(
            split, NoContent(), batch_size=7, seed=1, epoch=epoch, skip=skip, negatives=Negatives(split, "shared", 9)
        )
        return [batch.distinct[batch.negatives].tolist() for batch in source if batch.negatives is not None]

    assert drawn(0, 0)[2:] == drawn(0, 2)
    assert drawn(0, 0) != drawn(1, 0)
    assert drawn(0, 0)[0] != drawn(0, 0)[1]


def test_shared_negatives_follow_popularity(split: Split) -> None:
    negatives = Negatives(split, "shared", 200_000)
    drawn = negatives.draw(np.random.default_rng(0), np.zeros(1, np.int64), np.zeros((1, 1), np.int32))
    assert drawn is not None
    shares = np.bincount(drawn, minlength=split.num_items + 1) / len(drawn)
    np.testing.assert_allclose(shares, split.train_counts / split.train_counts.sum(), atol=0.004)
    assert not shares[split.train_counts == 0].any()


def test_the_whole_catalogue_is_in_every_batch(split: Split) -> None:
    for batch in batches(split, "pairs", negatives=Negatives(split, "catalogue")):
        assert batch.distinct.tolist() == list(range(1, split.num_items + 1))
        assert batch.negatives is None


def test_processes_share_what_one_would_have(split: Split) -> None:
    negatives = Negatives(split, "each", 3)
    for kind in ("sequences", "rest"):
        parts = [batches(split, kind, negatives=negatives, process=Process(rank, 2)) for rank in range(2)]
        for whole, first, second in zip(batches(split, kind, negatives=negatives), *parts, strict=True):
            assert whole.negatives is not None
            found: dict[int, list[Int64]] = {}
            for rank, part in enumerate((first, second)):
                assert part.negatives is not None
                assert torch.equal(part.distinct, whole.distinct)
                for row, drawn in zip(part.target_slots()[0].tolist(), part.negatives.numpy(), strict=True):
                    found.setdefault(2 * row + rank, []).append(drawn)
            for row, drawn in zip(whole.target_slots()[0].tolist(), whole.negatives.numpy(), strict=True):
                np.testing.assert_array_equal(found[row].pop(0), drawn)


def test_a_user_with_everything_has_no_negatives() -> None:
    split = split_of([[*range(1, 8), 1, 2]] * 3, Protocol())
    with pytest.raises(InputError, match="one user had all 7"):
        Negatives(split, "each", 2)
