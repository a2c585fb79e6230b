"""BERT and models of the same architecture as trunks over tokens."""

from typing import Any, Literal

from torch import Tensor

from microlens.encoders.huggingface import HuggingFaceTrunk
from microlens.encoders.trunk import Hidden, Stage

Pooling = Literal["cls", "mean"]


class BertTrunk(HuggingFaceTrunk):
    """BERT, or a model of the same architecture, from token ids to hidden states.

    The first hidden state is (token ids (M, T), mask (M, T)), later ones are (states (M, T, feature_dim), mask (M, T)).
    The mask is true at real tokens; states at padding are undefined.

    Args:
        model: a BertModel, RobertaModel or XLMRobertaModel of the transformers library, without its pooler.
    """

    foreign = ("cls.", "bert.pooler.", "bert.embeddings.position_ids")
    pools_every_stage = True

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
