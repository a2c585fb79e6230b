"""TIGER against the T5 of transformers with the same weights, one item at a time; its trie, and its options."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from microlens.config.sections import TrainSection
from microlens.data.item_codes import load_codes
from microlens.errors import InputError
from microlens.recommenders import t5, tiger
from microlens.recommenders.code_trie import CodeTrie
from microlens.recommenders.tiger import TIGER
from microlens.testing import worlds
from microlens.testing.models import all_scores, ready_recommender
from microlens.testing.worlds import N
from microlens.training.step import TrainingStep
from tests.training.test_losses import batch_of

DIM = 16
# Items 1 and 2 differ in their last code only; 3 shares the first with them; the others are alone from the first or
# second code on.
SMALL = np.array([[0, 1, 0], [0, 1, 1], [0, 2, 0], [1, 0, 0], [2, 2, 0], [2, 0, 0]])


@pytest.fixture
def codes(tmp_path: Path) -> str:
    """Three codes for each of the N items, of 3, 4 and as many as needed."""
    rng = np.random.default_rng(0)
    pairs = np.stack([rng.integers(0, 3, N), rng.integers(0, 4, N)], 1)
    group = pairs[:, 0] * 4 + pairs[:, 1]
    last = np.array([(group[:row] == group[row]).sum() for row in range(N)])
    return write(tmp_path, np.column_stack([pairs, last]))


def write(folder: Path, codes: np.ndarray, name: str = "codes") -> str:
    np.save(folder / f"{name}.npy", codes)
    np.save(folder / f"{name}.ids.npy", 10 * np.arange(1, len(codes) + 1))
    return str(folder / f"{name}.npy")


def build(codes: str, **options: Any) -> TIGER:
    table = {"name": "tiger", "codes": codes, "dim": DIM, "layers": 2, "heads": 2, "head_size": 4, "feed_forward": 24}
    model = ready_recommender({**table, "user_tokens": 3, **options}, worlds.small_split())
    assert isinstance(model, TIGER)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


class Theirs:
    """The log-probability of an item by the T5 of transformers, which reads one history and one item at a time."""

    def __init__(self, ours: TIGER, codes: np.ndarray) -> None:
        transformers = pytest.importorskip("transformers", reason="transformers is not installed (make setup)")
        self.ours, self.codes = ours, codes
        blocks, attention = len(ours.encoder), ours.encoder[0].get_submodule("attention")
        config = transformers.T5Config(
            vocab_size=len(ours.tokens),
            d_model=DIM,
            d_kv=attention.get_submodule("query").weight.shape[0] // 2,
            d_ff=24,
            num_layers=blocks,
            num_decoder_layers=blocks,
            num_heads=2,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        )
        self.model = transformers.T5ForConditionalGeneration(config).eval()
        with torch.no_grad():
            self._copy_weights()

    def _copy_weights(self) -> None:
        ours, model = self.ours, self.model
        model.shared.weight.copy_(ours.tokens)
        for number in range(len(ours.encoder)):
            own, theirs = ours.encoder[number], model.encoder.block[number].layer
            _copy_attention(own.get_submodule("attention"), theirs[0].SelfAttention)
            theirs[0].layer_norm.weight.copy_(own.get_submodule("norm").weight)
            _copy_feed_forward(own.get_submodule("feed_forward"), theirs[1])
            own, theirs = ours.decoder[number], model.decoder.block[number].layer
            _copy_attention(own.get_submodule("attention"), theirs[0].SelfAttention)
            theirs[0].layer_norm.weight.copy_(own.get_submodule("norm").weight)
            _copy_attention(own.get_submodule("cross_attention"), theirs[1].EncDecAttention)
            theirs[1].layer_norm.weight.copy_(own.get_submodule("cross_norm").weight)
            _copy_feed_forward(own.get_submodule("feed_forward"), theirs[2])
        model.encoder.final_layer_norm.weight.copy_(ours.encoder_norm.weight)
        model.decoder.final_layer_norm.weight.copy_(ours.decoder_norm.weight)
        by_bucket = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        by_bucket.copy_(ours.encoder_bias.T)
        by_distance = model.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        by_distance[: ours.decoder_bias.shape[1]] = ours.decoder_bias.T

    def score(self, user: int, history: list[int], item: int, followers: list[set[int]] | None) -> float:
        """The sum over codes; with ``followers``, each among the codes that the catalogue has there."""
        starts = [1]
        for size in self.codes.max(0) + 1:
            starts.append(starts[-1] + int(size))
        read = [starts[-1] + user % 3]
        for number in history:
            read += [starts[level] + int(code) for level, code in enumerate(self.codes[number - 1])]
        own = self.codes[item - 1]
        decoder = [0] + [starts[level] + int(code) for level, code in enumerate(own[:-1])]
        with torch.no_grad():
            logits = self.model(input_ids=torch.tensor([read]), decoder_input_ids=torch.tensor([decoder])).logits[0]
        total = 0.0
        for level, code in enumerate(own):
            of_level = logits[level, starts[level] : starts[level + 1]]
            if followers is not None:
                hidden = [other not in followers[level] for other in range(len(of_level))]
                of_level = of_level.masked_fill(torch.tensor(hidden), -torch.inf)
            total += float(of_level.log_softmax(0)[int(code)])
        return total


def _copy_attention(own: torch.nn.Module, theirs: Any) -> None:
    for name, other in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")):
        getattr(theirs, other).weight.copy_(own.get_submodule(name).weight)


def _copy_feed_forward(own: torch.nn.Module, theirs: Any) -> None:
    theirs.layer_norm.weight.copy_(own.get_submodule("norm").weight)
    theirs.DenseReluDense.wi.weight.copy_(own.get_submodule("expand").weight)
    theirs.DenseReluDense.wo.weight.copy_(own.get_submodule("contract").weight)


def followers_of(codes: np.ndarray, item: int) -> list[set[int]]:
    """For each code of an item, the codes that items with the same codes before it have there."""
    own = codes[item - 1]
    return [{int(other[level]) for other in codes if (other[:level] == own[:level]).all()} for level in range(len(own))]


@pytest.mark.parametrize("softmax", ["codes", "trie"])
def test_scores_are_those_of_t5(codes: str, softmax: str) -> None:
    ours = build(codes, softmax=softmax)
    matrix = np.load(codes)
    theirs = Theirs(ours, matrix)
    history = worlds.histories()
    scores = all_scores(ours, history).detach()
    for user, items in enumerate(history.tolist()):
        for item in (1, 5, 17, N):
            followers = followers_of(matrix, item) if softmax == "trie" else None
            expected = theirs.score(user, [number for number in items if number], item, followers)
            assert float(scores[user, item]) == pytest.approx(expected, abs=2e-5)


def test_long_histories_are_read_as_t5_reads_them() -> None:
    """Distances of tokens up to beyond the last bucket."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (make setup)")
    from transformers.models.t5.modeling_t5 import T5Attention

    del transformers
    places = torch.arange(200)
    expected = T5Attention._relative_position_bucket(places - places[:, None], bidirectional=True)
    assert torch.equal(t5.distance_buckets(200, torch.device("cpu")), expected)


@pytest.mark.parametrize("softmax", ["codes", "trie"])
def test_the_catalogue_in_small_parts_has_the_same_scores(
    codes: str, softmax: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, history = build(codes, softmax=softmax), worlds.histories()
    expected = all_scores(model, history)
    monkeypatch.setitem(tiger.IN_STEP, "cpu", 2 * model.width)
    monkeypatch.setitem(tiger.IN_CACHE, "cpu", 2 * model.cached)
    torch.testing.assert_close(all_scores(model, history), expected)


def test_items_of_ones_own_are_scored_in_parts_of_equal_length(codes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And come back in the order of users, the longest history first."""
    model, history = build(codes), worlds.histories().flip(0)
    expected = all_scores(model, history)
    monkeypatch.setattr(tiger, "ROWS_AT_ONCE", 2)
    items = torch.randint(1, N + 1, (5, 4))
    states = model.last_states(torch.arange(5), history, history)
    torch.testing.assert_close(model.score_each(states, items[..., None].float()), expected.gather(1, items))


def test_probabilities_of_all_items_sum_to_one_over_the_trie_and_to_less_over_all_codes(codes: str) -> None:
    over_trie, over_codes = (
        all_scores(build(codes, softmax=softmax), worlds.histories())[:, 1:].exp().sum(1)
        for softmax in ("trie", "codes")
    )
    torch.testing.assert_close(over_trie, torch.ones(5))
    assert (over_codes < 0.99).all()


@pytest.mark.parametrize("softmax", ["codes", "trie"])
def test_the_loss_is_the_cross_entropy_of_the_targets_codes(codes: str, softmax: str) -> None:
    """The mean over all targets, each read from its own history alone."""
    model = build(codes, softmax=softmax)
    batch = batch_of(torch.tensor([[0, 0, 3, 7], [5, 2, 9, 1], [0, 0, 0, 4], [0, 8, 3, 3]]))
    step = TrainingStep(model, torch.ones(N + 1).long(), settings=TrainSection(loss="likelihood"))
    losses = []
    for user, row in enumerate(batch.sequence.tolist()):
        for place in range(1, 4):
            if row[place - 1]:
                history = torch.tensor([row[:place]])
                states = model.last_states(torch.tensor([user]), history, history)
                losses.append(-model.score(states, torch.arange(N + 1.0)[:, None])[0, row[place]].item())
    assert len(losses) == batch.num_targets
    assert step(batch).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_likelihood_of_a_model_without_log_probabilities_is_refused() -> None:
    model = ready_recommender({"name": "sasrec"}, worlds.small_split())
    with pytest.raises(InputError, match="no log-probabilities; choose another"):
        TrainingStep(model, torch.ones(N + 1).long(), settings=TrainSection(loss="likelihood"))


def rows(trie: CodeTrie) -> list[list[list[int]]]:
    """The asked prefixes of each length, rebuilt from ancestors and last codes."""
    found: list[list[list[int]]] = []
    for length, level in enumerate(trie.levels):
        above: list[list[int]] = [found[-1][row] for row in level.ancestors[:, -1].tolist()] if length else [[]]
        last = level.codes.tolist()
        found.append([[*before, code][:length] for before, code in zip(above, last, strict=True)])
    return found


def test_the_trie_asks_each_prefix_once_and_those_of_one_item_only_if_all_codes_compete() -> None:
    every = rows(CodeTrie(SMALL, [3, 3, 2], restricted=False))
    assert every == [
        [[]],
        [[0], [1], [2]],
        [[0, 1], [0, 2], [1, 0], [2, 0], [2, 2]],
    ]
    assert rows(CodeTrie(SMALL, [3, 3, 2], restricted=True)) == [[[]], [[0], [2]], [[0, 1]]]


def test_users_share_tokens_by_number_and_need_none(codes: str) -> None:
    history = worlds.histories()[-1:].expand(4, -1)
    scores = all_scores(build(codes), history).detach()
    assert torch.equal(scores[0], scores[3])
    assert not torch.allclose(scores[0], scores[1])
    without = build(codes, user_tokens=0)
    assert not without.known_users_only
    assert torch.equal(*all_scores(without, history)[:2])


def test_an_option_out_of_range_is_refused(codes: str) -> None:
    with pytest.raises(InputError, match="heads = 0"):
        build(codes, heads=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (SMALL - 1, "item 10 has -1"),
        (SMALL + 0.5, "item 10 has 0.5"),
        (SMALL + 65_536, "item 10 has 65536"),
        (SMALL[[0, 1, 2, 3, 4, 2]], "gives the items 30 and 60 the same codes"),
    ],
)
def test_a_file_without_codes_is_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_codes(write(tmp_path, values), 10 * np.arange(1, 7))


def _planted(patch: pytest.MonkeyPatch, name: str) -> None:
    """Change the model in one place."""
    if name == "user token at the wrong place":
        patch.setattr(tiger.TIGER, "_user_token", lambda self, users: (users + 1) % self.user_tokens)
    elif name == "scaled logits":
        attend = t5.Attention.attend
        patch.setattr(t5.Attention, "attend", lambda self, q, read, bias: attend(self, q / 2, read, bias))
    elif name == "no mask":
        patch.setattr(tiger, "HIDDEN", 0.0)
    elif name == "positions the wrong way round":
        buckets = t5.distance_buckets
        patch.setattr(tiger, "distance_buckets", lambda length, device: buckets(length, device).T)
    elif name == "distances of the decoder":
        patch.setattr(Tensor, "flip", lambda self, *dims: self)


@pytest.mark.parametrize(
    "name",
    [
        "user token at the wrong place",
        "scaled logits",
        "no mask",
        "positions the wrong way round",
        "distances of the decoder",
    ],
)
def test_planted_deviations_are_found(codes: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(codes)
    theirs = Theirs(model, np.load(codes))
    history = worlds.histories()
    items = [number for number in history[1].tolist() if number]
    expected = theirs.score(1, items, 17, None)
    with monkeypatch.context() as patch:
        _planted(patch, name)
        found = all_scores(model, history)[1, 17].item()
    assert found != pytest.approx(expected, abs=1e-3)
