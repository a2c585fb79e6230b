"""Ranks counted in blocks against ranks from whole rows of scores."""

import pytest
import torch

from microlens.evaluation import block_ranking
from microlens.evaluation.block_ranking import cannot_overflow, ranks_in_blocks
from microlens.evaluation.ranking import rank_of_target


def world(users: int, items: int, dim: int, levels: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """States, catalogue, targets and histories with repeats, padding and targets among them; few levels make ties."""
    generator = torch.Generator().manual_seed(seed)
    catalogue = torch.randint(-levels, levels + 1, (items + 1, dim), generator=generator).float()
    catalogue[0] = 0
    states = torch.randint(-levels, levels + 1, (users, dim), generator=generator).float()
    targets = torch.randint(1, items + 1, (users,), generator=generator)
    seen = torch.randint(0, items + 1, (users, 6), generator=generator)
    seen[:, 1] = seen[:, 2]
    seen[::3, 3] = targets[::3]
    return states, catalogue, targets, seen


@pytest.mark.parametrize(("users", "items"), [(40, 100), (40, 96), (7, 3), (1, 50), (2, 1)])
@pytest.mark.parametrize("levels", [1, 3, 1000])
@pytest.mark.parametrize("ordered", [True, False])
def test_ranks_are_those_of_whole_rows(
    users: int, items: int, levels: int, ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_ranking, "ITEMS_IN_BLOCK", 32)
    states, catalogue, targets, seen = world(users, items, 4, levels)
    if ordered:
        targets = targets.sort().values
    expected = rank_of_target(states @ catalogue.T, targets, seen)
    assert torch.equal(ranks_in_blocks(states, catalogue, targets, seen), expected)


def test_ties_of_rounded_scores_count_against_the_target() -> None:
    """Items with the same vector in different blocks have the same score to the last bit."""
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(5, 33, generator=generator)
    catalogue = torch.cat([torch.zeros(1, 33), vectors.repeat(700, 1)])
    states, targets = torch.randn(3, 33, generator=generator), torch.tensor([1, 2002, 3500])
    for count in (1, 3):
        found = ranks_in_blocks(states[:count], catalogue, targets[:count], torch.zeros(count, 0, dtype=torch.int64))
        order = (states[:count] @ vectors.T).argsort(1, descending=True).argsort(1)  # place of each kind of item
        assert found.tolist() == [700 * (int(row[(t - 1) % 5]) + 1) for row, t in zip(order, targets)]  # noqa: B905


def test_products_that_may_overflow_are_told() -> None:
    ones = torch.ones(2, 4)
    assert cannot_overflow(ones, ones)
    assert not cannot_overflow(ones * 1e19, ones * 1e19)
    assert not cannot_overflow(ones * 1e38, ones)
