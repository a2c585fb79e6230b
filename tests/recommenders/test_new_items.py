"""Offsets of new items against trying them."""

import numpy as np
import pytest
import torch
from torch import Tensor

from microlens.recommenders.fusion import tolerated
from microlens.recommenders.new_items import new_ahead, new_reaches

K = 3


def is_hit(scores: Tensor, target: int, is_new: Tensor, offset: float) -> bool:
    raised = scores + offset * is_new
    return int((raised >= raised[target]).sum()) <= K


def world(seed: int) -> tuple[Tensor, Tensor]:
    """Scores of 40 users for 12 items, half of them new, in halves, with ties and items already seen."""
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.integers(0, 16, (40, 13)) / 2).float()
    scores[:, 0] = -torch.inf
    scores[torch.from_numpy(rng.random((40, 13)) < 0.2)] = -torch.inf
    is_new = torch.zeros(13, dtype=torch.bool)
    is_new[torch.from_numpy(rng.permutation(12)[:6] + 1)] = True
    return scores, is_new


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("of_new", [False, True])
def test_limits_are_where_a_target_enters_or_leaves(seed: int, of_new: bool) -> None:
    scores, is_new = world(seed)
    rows, targets = [], []
    for row, values in enumerate(scores):
        possible = ((is_new == of_new) & (values > -torch.inf)).nonzero()[:, 0].tolist()
        rows += [row] * len([item for item in possible if item])
        targets += [item for item in possible if item]
    asked = scores[rows], torch.tensor(targets), is_new, K
    limits = (new_reaches if of_new else new_ahead)(*asked)
    for offset in np.arange(-10, 10, 0.25).tolist():
        expected = [is_hit(scores[row], target, is_new, offset) for row, target in zip(rows, targets, strict=True)]
        found = limits < offset if of_new else offset < limits
        assert found.tolist() == expected, offset


def test_the_tolerated_offset_costs_its_share_and_no_more() -> None:
    limits = torch.tensor([-torch.inf, 4.0, 1.0, 2.0, 3.0, torch.inf])  # five hits
    for share, lost in [(0.0, 0), (0.19, 0), (0.2, 1), (0.5, 2), (0.79, 3)]:
        offset = tolerated(limits, share)
        assert int((limits[1:] <= offset).sum()) == lost
        assert offset > sorted([-torch.inf, 1.0, 2.0, 3.0, 4.0])[lost], "a larger offset costs more"
    assert tolerated(limits, 0.9) == 0.0, "new items push out none of the rest"
    assert tolerated(limits[:1], 0.1) == 0.0
