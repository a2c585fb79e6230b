"""Image encoders of pretrained models: DINOv2, DINOv3, SigLIP and SigLIP 2.

- DINOv2: Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", arXiv 2304.07193; with registers:
  Darcet et al., "Vision Transformers Need Registers", arXiv 2309.16588.
- DINOv3: Siméoni et al., "DINOv3", arXiv 2508.10104; its vision transformers.
- SigLIP: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", arXiv 2303.15343; SigLIP 2: Tschannen et al.,
  arXiv 2502.14786. Models of SigLIP 2 with a fixed resolution are of the type "siglip"; "siglip2" are those that take
  pictures of any shape (NaFlex).

The layers are those of the transformers library.
"""

from collections.abc import Callable
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from microlens.encoders.content import Missing
from microlens.encoders.huggingface import transformers_library
from microlens.encoders.image import ImageEncoder, Source
from microlens.encoders.pretrained import (
    Family,
    PretrainedModel,
    PretrainedTrunk,
    Weights,
    bring_pretrained,
    build_trunk,
    library_config,
    set_pixel_statistics,
)
from microlens.encoders.trunk import Hidden, Stage, one_tensor_stage
from microlens.encoders.tuning import Tuning


class DINOv2(PretrainedTrunk):
    """DINOv2, with or without registers, pooled at its normalised class token.

    Args:
        model: a Dinov2Model or Dinov2WithRegistersModel of the transformers library.
    """

    family = "DINOv2"
    foreign = ("classifier.",)
    renamed = (
        (".attention.q_proj", ".attention.attention.query"),
        (".attention.k_proj", ".attention.attention.key"),
        (".attention.v_proj", ".attention.attention.value"),
        (".attention.o_proj", ".attention.output.dense"),
    )

    def __init__(self, model: Any) -> None:
        super().__init__(model.config.patch_size, model.config.num_hidden_layers)
        self.feature_dim = model.config.hidden_size
        self.prefix = f"{model.config.model_type}."  # "dinov2." or "dinov2_with_registers."
        self.add_module(model.config.model_type, model)

    @property
    def _model(self) -> Any:
        return self.get_submodule(self.prefix[:-1])

    def stages(self) -> list[Stage]:
        """The embedding of patches, class token, registers and positions, and the layers."""
        return list(map(one_tensor_stage, [self._model.embeddings, *self._model.encoder.layer]))

    def pool(self, hidden: Hidden) -> Tensor:
        """The normalised class token: (M, feature_dim)."""
        features: Tensor = self._model.layernorm(hidden[0][:, 0])
        return features


class DINOv3(PretrainedTrunk):
    """A vision transformer of DINOv3, pooled at its normalised class token.

    Positions are rotary. Their random shifts and stretches, which belong to pre-training, are left out.

    Args:
        model: a DINOv3ViTModel of the transformers library.
    """

    family = "DINOv3"
    prefix = "dinov3_vit."
    renamed = (("dinov3_vit.model.layer.", "dinov3_vit.layer."),)

    def __init__(self, model: Any) -> None:
        config = model.config
        super().__init__(config.patch_size, config.num_hidden_layers)
        self.feature_dim = config.hidden_size
        self.dinov3_vit = model
        config.pos_embed_shift = config.pos_embed_jitter = config.pos_embed_rescale = None

    def stages(self) -> list[Stage]:
        """The embedding of patches, class token and registers, and the layers."""
        return [one_tensor_stage(self.dinov3_vit.embeddings), *map(self._layer_stage, self.dinov3_vit.model.layer)]

    def _layer_stage(self, layer: nn.Module) -> Stage:
        def run(hidden: Hidden) -> Hidden:
            return (layer(hidden[0], position_embeddings=self._rotations(hidden[0])),)

        return Stage(run, (layer,))

    def _rotations(self, tokens: Tensor) -> Any:
        """The rotary positions of a square picture with these (M, T, feature_dim) tokens."""
        config = self.dinov3_vit.config
        size = isqrt(tokens.shape[1] - 1 - config.num_register_tokens) * config.patch_size
        return self.dinov3_vit.rope_embeddings(tokens.new_empty(1).expand(1, 1, size, size))  # only its shape is used

    def pool(self, hidden: Hidden) -> Tensor:
        """The normalised class token: (M, feature_dim)."""
        features: Tensor = self.dinov3_vit.norm(hidden[0][:, 0])
        return features


class SigLIP(PretrainedTrunk):
    """The vision tower of SigLIP, or of SigLIP 2 with a fixed resolution, pooled by its attention head.

    Args:
        model: a SiglipVisionModel of the transformers library.
    """

    family = "SigLIP"
    prefix = "vision_model."
    foreign = ("text_model.", "logit_scale", "logit_bias", "classifier.", "vision_model.embeddings.position_ids")

    def __init__(self, model: Any) -> None:
        super().__init__(model.config.patch_size, model.config.num_hidden_layers)
        self.feature_dim = model.config.hidden_size
        self.vision_model = model

    def stages(self) -> list[Stage]:
        """The embedding of patches and positions, and the layers."""
        embedding = Stage(lambda hidden: (self._embed(hidden[0]),), (self.vision_model.embeddings,))
        return [embedding, *map(_masked_layer_stage, self.vision_model.encoder.layers)]

    def _embed(self, pixels: Tensor) -> Tensor:
        """Map (M, 3, H, W) to tokens (M, patches, feature_dim)."""
        tokens: Tensor = self.vision_model.embeddings(pixels, interpolate_pos_encoding=True)
        return tokens

    def pool(self, hidden: Hidden) -> Tensor:
        """The attention head over the normalised tokens: (M, feature_dim)."""
        features: Tensor = self.vision_model.head(self.vision_model.post_layernorm(hidden[0]))
        return features

    def adapted(self) -> list[str]:
        """The linear layers of the layers' attention; those of the head's cannot be replaced."""
        return [name for name in super().adapted() if ".head." not in name]


class SigLIP2(SigLIP):
    """The vision tower of SigLIP 2 for pictures of any shape (NaFlex), pooled by its attention head.

    Args:
        model: a Siglip2VisionModel of the transformers library.
    """

    family = "SigLIP 2"

    def _embed(self, pixels: Tensor) -> Tensor:
        """Map (M, 3, H, W) to tokens (M, patches, feature_dim); patches lie row by row, as do pixels in them."""
        height, width = (size // self.patch for size in pixels.shape[2:])
        blocks = pixels.view(len(pixels), 3, height, self.patch, width, self.patch)
        patches = blocks.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # (M, height * width, patch * patch * 3)
        shapes = torch.tensor([[height, width]], device=pixels.device).expand(len(pixels), 2)
        tokens: Tensor = self.vision_model.embeddings(patches, shapes)
        return tokens


def _masked_layer_stage(layer: nn.Module) -> Stage:
    return Stage(lambda hidden: (layer(hidden[0], attention_mask=None),), (layer,))


def _trunk(trunk: Callable[[Any], PretrainedTrunk], model: str) -> Callable[[Any], PretrainedTrunk]:
    """The constructor of ``trunk`` around the library's class ``model``, from a configuration."""
    return lambda config: trunk(getattr(transformers_library(model), model)(config))


IMAGE_FAMILIES = {
    "dinov2": Family(_trunk(DINOv2, "Dinov2Model"), library_config("Dinov2Config")),
    "dinov2_with_registers": Family(
        _trunk(DINOv2, "Dinov2WithRegistersModel"), library_config("Dinov2WithRegistersConfig")
    ),
    "dinov3_vit": Family(_trunk(DINOv3, "DINOv3ViTModel"), library_config("DINOv3ViTConfig")),
    "siglip": Family(_trunk(SigLIP, "SiglipVisionModel"), library_config("SiglipConfig", "vision_config")),
    "siglip_vision_model": Family(_trunk(SigLIP, "SiglipVisionModel"), library_config("SiglipVisionConfig")),
    "siglip2": Family(_trunk(SigLIP2, "Siglip2VisionModel"), library_config("Siglip2Config", "vision_config")),
    "siglip2_vision_model": Family(_trunk(SigLIP2, "Siglip2VisionModel"), library_config("Siglip2VisionConfig")),
}


def image_model(
    *,
    dim: int,
    tuning: Tuning,
    cover_size: int | None = None,
    clip_shape: tuple[int, int] | None = None,
    model: str,
    source: Source = "cover",
    weights: Weights = "default",
    missing: Missing = "error",
) -> ImageEncoder:
    """A DINOv2, DINOv3, SigLIP or SigLIP 2 over covers or middle frames: a folder, or a name on Hugging Face."""
    files = PretrainedModel(model)
    trunk = build_trunk(files, IMAGE_FAMILIES)
    set_pixel_statistics(trunk, files)
    size = cover_size if source == "cover" else clip_shape and clip_shape[1]
    if size is not None:
        trunk.check_clip(1, size)
    bring_pretrained(trunk, files, weights, tuning)
    return ImageEncoder(trunk, dim, tuning=tuning, source=source, missing=missing)
