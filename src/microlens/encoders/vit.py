"""Plain vision transformers for pictures, and the encoder of MAE-base (He et al., CVPR 2022, arXiv 2111.06377).

The layers are those of the transformers library. Sizes other than 224 pixels are accepted if they are a multiple of the
patch size; the learned positions are then interpolated.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from microlens.encoders.huggingface import HuggingFaceTrunk, check_patches, transformers_library
from microlens.encoders.trunk import Hidden, Stage, one_tensor_stage


class PlainViT(HuggingFaceTrunk):
    """The settings of a plain vision transformer, and the sizes that it accepts.

    Args:
        config: a configuration of the transformers library.
    """

    family: ClassVar[str]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.settings = config
        self.feature_dim = config.hidden_size

    def check_clip(self, frames: int, size: int) -> None:
        """Reject sizes that are not a multiple of the patch size."""
        check_patches(self.family, size, patch=self.settings.patch_size, native=self.settings.image_size)


class MAE(PlainViT):
    """The encoder of a masked autoencoder over all patches, without masking, pooled at its class token.

    The original code leaves the masking of pre-training on, so that the features of a picture are those of a random
    quarter of it, even in evaluation.

    Args:
        config: a ViTMAEConfig of the transformers library.
    """

    family = "MAE"
    paper_top = 2
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    foreign = ("decoder.",)
    pools_every_stage = True
    renamed = (
        ("vit.layers.", "vit.encoder.layer."),
        ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    )

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.vit = transformers_library(self.family).ViTMAEModel(config)

    def stages(self) -> list[Stage]:
        """The embedding of patches, class token and positions, and the layers."""
        embedding = Stage(lambda hidden: (self._embed(hidden[0]),), (self.vit.embeddings,))
        return [embedding, *map(one_tensor_stage, self.vit.layers)]

    def _embed(self, pixels: Tensor) -> Tensor:
        """Map (M, 3, H, W) to tokens (M, 1 + patches, feature_dim), the class token first."""
        embeddings = self.vit.embeddings
        tokens = torch.cat([embeddings.cls_token.expand(len(pixels), -1, -1), embeddings.patch_embeddings(pixels)], 1)
        positions: Tensor = embeddings.interpolate_pos_encoding(tokens, *pixels.shape[2:])
        return tokens + positions

    def pool(self, hidden: Hidden) -> Tensor:
        """The normalised class token: (M, feature_dim)."""
        features: Tensor = self.vit.layernorm(hidden[0][:, 0])
        return features


def mae_base() -> MAE:
    """MAE-base (ViT-B/16) with random weights."""
    return MAE(transformers_library("MAE").ViTMAEConfig())
