"""Words of titles against a plain loop."""

import math
import re
import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microlens.data.item_words import item_words, words_of

UNSPACED = "一-鿿぀-ヿ฀-๿"


def words_loop(title: str) -> list[str]:
    text = unicodedata.normalize("NFKC", title).lower()
    words = re.findall(r"(?:[^\W_]|')+", text)
    for run in re.findall(f"[{UNSPACED}]+", text):
        words += list(run)
        words += [run[start : start + 2] for start in range(len(run) - 1)]
    words += ["#" + tag.strip() for tag in re.findall(r"#([^#]+)", text) if tag.strip()]
    return words


def weights_loop(titles: list[str], min_items: int) -> list[dict[str, float]]:
    counts = [Counter(words_loop(title)) for title in titles]
    spread = Counter(word for found in counts for word in found)
    rows = []
    for found in counts:
        row = {
            word: (1 + math.log(count)) * (1 + math.log((1 + len(titles)) / (1 + spread[word])))
            for word, count in found.items()
            if spread[word] >= min_items
        }
        length = math.sqrt(sum(weight**2 for weight in row.values()))
        rows.append({word: weight / length for word, weight in row.items()})
    return rows


def as_rows(titles: list[str], min_items: int) -> list[dict[str, float]]:
    found = item_words(titles, min_items)
    assert found.offsets[0] == found.offsets[1] == 0, "padding has no words"
    assert found.names == sorted(found.names)
    rows = []
    for begin, end in zip(found.offsets[1:-1], found.offsets[2:], strict=True):
        words = [found.names[word] for word in found.words[begin:end]]
        rows.append(dict(zip(words, found.weights[begin:end].tolist(), strict=True)))
    return rows


TITLES = [
    "Cats, cats and a dog's life # Funny cats # cats",
    "A DOG # funny cats #cats",
    "",
    "猫和狗 的日常 #猫",
    "小猫的日常! 猫和鱼",
    "ねこの日常 life_cats",
    "# # \N{GRINNING FACE} 12 dogs",
]


@pytest.mark.parametrize("min_items", [1, 2])
def test_words_and_weights_are_those_of_the_loop(min_items: int) -> None:
    expected = weights_loop(TITLES, min_items)
    assert as_rows(TITLES, min_items) == [pytest.approx(row, rel=1e-6) for row in expected]
    assert any("#funny cats" in row for row in expected)
    assert any("的日" in row for row in expected)


@given(st.lists(st.text("ab #'猫狗鱼1"), min_size=1, max_size=5))
def test_any_titles(titles: list[str]) -> None:
    assert as_rows(titles, 1) == [pytest.approx(row, rel=1e-5) for row in weights_loop(titles, 1)]


def test_rows_have_unit_length() -> None:
    found = item_words(TITLES, 1)
    lengths = np.add.reduceat(found.weights**2, found.offsets[1:-1][np.diff(found.offsets[1:]) > 0])
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


@pytest.mark.parametrize("min_items", [1, 2])
def test_a_title_outside_has_the_words_and_weights_that_it_would_have_inside(min_items: int) -> None:
    found = item_words(TITLES, min_items)
    for item, title in enumerate(TITLES, 1):
        row = slice(found.offsets[item], found.offsets[item + 1])
        outside = words_of([title], found.vocabulary)
        assert outside.words.tolist() == found.words[row].tolist()
        assert outside.weights.tolist() == found.weights[row].tolist()
    whole = words_of(["dogs", "dogs nobody knows", "", "nobody"], item_words(["dogs cats", "dogs"], 1).vocabulary)
    assert np.diff(whole.offsets).tolist() == [0, 1, 1, 0, 0], "words that the vocabulary lacks are left out"
    assert whole.weights.tolist() == [1.0, 1.0], "and so they are from the length"
