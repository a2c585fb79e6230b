"""The walk over users that ranks and lists read, and ties, against loops."""

import numpy as np
import pytest
import torch

from microlens.evaluation import ranking
from microlens.evaluation.top_items import best_of, top_items


def best_by_sorting(scores: torch.Tensor, k: int) -> list[list[int]]:
    """The columns of each row's k highest scores, ties by column, by sorting everything."""
    rows = scores.tolist()
    return [sorted(range(len(row)), key=lambda column: (-row[column], column))[:k] for row in rows]


@pytest.mark.parametrize("k", [1, 3, 10, 40, 50])
@pytest.mark.parametrize("levels", [2, 7, 1000])
def test_the_best_are_those_of_a_sort_with_ties_by_column(k: int, levels: int) -> None:
    generator = torch.Generator().manual_seed(k + levels)
    scores = torch.randint(levels, (60, 40), generator=generator).float()
    scores[5, 3:] = -torch.inf  # fewer candidates than most k
    found = best_of(scores.clone(), k)
    finite = [min(k, 40)] * 60
    finite[5] = min(k, 3)
    expected = [row[:count] for row, count in zip(best_by_sorting(scores, k), finite, strict=True)]
    assert [row[:count] for row, count in zip(found.indices.tolist(), finite, strict=True)] == expected
    assert torch.equal(found.values, scores.gather(1, found.indices))


def test_chunks_of_users_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dot:
        def last_states(self, users: torch.Tensor, history: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
            return vectors.sum(1) + users[:, None]

        def score(self, states: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
            return states @ items.T

    generator = torch.Generator().manual_seed(0)
    catalogue = torch.cat([torch.zeros(1, 4), torch.randn(30, 4, generator=generator)])
    histories = torch.randint(1, 31, (23, 5), generator=generator).numpy().astype(np.int32)
    users = np.arange(23)

    def lists() -> tuple[np.ndarray, np.ndarray]:
        return top_items(Dot(), catalogue, users, lambda rows: (histories[rows], histories[rows]), 6)  # type: ignore[arg-type]

    items, scores = lists()
    for user in users:
        states = catalogue[histories[user].astype(int)].sum(0) + user
        own = (catalogue @ states).tolist()
        free = [item for item in range(1, 31) if item not in set(histories[user].tolist())]
        expected = sorted(free, key=lambda item: (-own[item], item))[:6]
        assert items[user].tolist() == expected
        np.testing.assert_allclose(scores[user], [own[item] for item in expected], rtol=1e-5)
    monkeypatch.setattr(ranking, "USERS_AT_ONCE", 7)
    monkeypatch.setattr(ranking, "ROWS_AT_ONCE", 3)
    again = lists()
    assert np.array_equal(again[0], items)
    np.testing.assert_allclose(again[1], scores, rtol=1e-6)
