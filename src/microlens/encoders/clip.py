"""The vision tower of CLIP ViT-B/32 (Radford et al., ICML 2021, arXiv 2103.00020).

The layers are those of the transformers library.
"""

from typing import Any

from torch import Tensor, nn

from microlens.encoders.huggingface import transformers_library
from microlens.encoders.trunk import Hidden, Stage
from microlens.encoders.vit import PlainViT


class CLIPVision(PlainViT):
    """CLIP's vision tower, before the projection into the space shared with text, pooled at its class token.

    Args:
        config: a CLIPVisionConfig of the transformers library.
    """

    family = "CLIP"
    paper_top = 2
    pools_every_stage = True
    mean = (0.48145466, 0.4578275, 0.40821073)
    std = (0.26862954, 0.26130258, 0.27577711)
    foreign = (
        "text_model.",
        "logit_scale",
        "text_projection.",
        "visual_projection.",
        "vision_model.embeddings.position_ids",
    )

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.vision_model = transformers_library(self.family).CLIPVisionModel(config)

    def stages(self) -> list[Stage]:
        """The embedding with its norm, and the layers."""
        model = self.vision_model
        embedding = Stage(lambda hidden: (self._embed(hidden[0]),), (model.embeddings, model.pre_layrnorm))
        return [embedding, *map(_layer_stage, model.encoder.layers)]

    def _embed(self, pixels: Tensor) -> Tensor:
        """Map (M, 3, H, W) to tokens (M, 1 + patches, feature_dim), the class token first."""
        tokens = self.vision_model.embeddings(pixels, interpolate_pos_encoding=True)
        normed: Tensor = self.vision_model.pre_layrnorm(tokens)
        return normed

    def pool(self, hidden: Hidden) -> Tensor:
        """The normalised class token: (M, feature_dim)."""
        features: Tensor = self.vision_model.post_layernorm(hidden[0][:, 0])
        return features


def _layer_stage(layer: nn.Module) -> Stage:
    return Stage(lambda hidden: (layer(hidden[0], attention_mask=None),), (layer,))


def clip_vit_b_32() -> CLIPVision:
    """The vision tower of CLIP ViT-B/32 with random weights."""
    return CLIPVision(transformers_library("CLIP").CLIPVisionConfig())
