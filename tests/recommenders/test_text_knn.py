"""Neighbours by words against a plain loop."""

import pytest
import torch

from microlens.building import build
from microlens.data.new_items import NewItem
from microlens.errors import InputError
from microlens.recommenders import RECOMMENDERS
from microlens.recommenders.text_knn import TextKNN
from tests.data.test_item_words import TITLES, weights_loop

HISTORIES = [[4], [2, 1, 4], [3], [3, 6], [5, 4, 5]]


def scores_loop(history: list[int], decay: float) -> list[float]:
    rows = weights_loop(TITLES, 1)
    scores = []
    for other in rows:
        total = 0.0
        for age, item in enumerate(reversed(history)):
            row = rows[item - 1]
            total += decay**age * sum(weight * other.get(word, 0.0) for word, weight in row.items())
        scores.append(total)
    return scores


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_scores_are_those_of_the_loop(decay: float) -> None:
    model = TextKNN(titles=TITLES, decay=decay, min_items=1)
    states = torch.tensor([[0] * (4 - len(history)) + history for history in HISTORIES])
    scores = model.scores(states)
    assert scores[:, 0].eq(0).all()
    expected = torch.tensor([scores_loop(history, decay) for history in HISTORIES])
    torch.testing.assert_close(scores[:, 1:], expected, rtol=1e-5, atol=1e-6)
    assert scores[0].argmax() == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": 0.0}, "decay = 0"),
        ({"min_items": 0}, "min_items = 0"),
        ({"min_items": 9}, "no word occurs in the titles of 9 items"),
    ],
)
def test_what_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(RECOMMENDERS["text_knn"], options, {"titles": TITLES}, "model")


def test_a_new_item_scores_as_one_of_the_catalogue_with_its_title() -> None:
    model = TextKNN(titles=TITLES, decay=0.5, min_items=1)
    states = torch.tensor([[0] * (4 - len(history)) + history for history in HISTORIES])
    before, new = model.scores(states), [NewItem(title=title) for title in (*TITLES, "Nobody knows")]
    grown, vectors = model.with_new(new[:3], torch.zeros(3, 1))
    grown, more = grown.with_new(new[3:], torch.zeros(5, 1))
    assert torch.cat([vectors, more])[:, 0].tolist() == list(range(8, 16))
    scores = grown.scores(states)
    assert torch.equal(scores[:, :8], before)
    assert torch.equal(scores[:, 8:15], before[:, 1:])
    assert not scores[:, 15].any()
    assert torch.equal(grown.scores(torch.where(states > 0, states + 7, 0)), scores), "in a history, too"
    assert torch.equal(model.scores(states), before), "the model itself knows nothing of them"
