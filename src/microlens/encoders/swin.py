"""Swin Transformer for pictures.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021, arXiv 2103.14030. The
blocks are those of the transformers library. Pictures of any size are accepted: pictures are padded to whole patches,
and feature maps to whole windows, which remain 7x7 on small maps.
"""

from typing import Any

from torch import Tensor

from microlens.encoders.huggingface import HuggingFaceTrunk, transformers_library
from microlens.encoders.trunk import Hidden, Stage


class Swin(HuggingFaceTrunk):
    """A patch embedding and four stages of windowed attention, the first three followed by downsampling by 2.

    Args:
        config: a SwinConfig of the transformers library.
    """

    paper_top = 1
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    renamed = (
        ("attention.q_proj", "attention.self.query"),
        ("attention.k_proj", "attention.self.key"),
        ("attention.v_proj", "attention.self.value"),
        (
            "attention.relative_position_bias.relative_position_bias_table",
            "attention.self.relative_position_bias_table",
        ),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    )

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.feature_dim = config.hidden_size
        self.swin = transformers_library("Swin").SwinModel(config, add_pooling_layer=False)
        indices = (
            f"swin.encoder.layers.{stage}.blocks.{block}.attention.self.relative_position_index"
            for stage, depth in enumerate(config.depths)
            for block in range(depth)
        )
        self.foreign = ("classifier.", *indices)  # the indices can be derived from the window size

    def stages(self) -> list[Stage]:
        """The patch embedding and the four stages; hidden states are feature maps (M, H, W, C)."""
        stages = [Stage(lambda hidden: (self._embed(hidden[0]),), (self.swin.embeddings,))]
        return stages + [_swin_stage(layer) for layer in self.swin.encoder.layers]

    def _embed(self, pixels: Tensor) -> Tensor:
        tokens, (height, width) = self.swin.embeddings(pixels)
        return _as_map(tokens, height, width)

    def pool(self, hidden: Hidden) -> Tensor:
        """The mean over the normalised feature map."""
        features: Tensor = self.swin.layernorm(hidden[0]).mean((1, 2))
        return features


def _swin_stage(stage: Any) -> Stage:
    return Stage(lambda hidden: (_run_swin_stage(stage, hidden[0]),), (stage,))


def _run_swin_stage(stage: Any, maps: Tensor) -> Tensor:
    """Map (M, H, W, C) to (M, H, W, C), or to (M, H / 2, W / 2, 2C) with downsampling."""
    height, width = size = maps.shape[1:3]
    tokens = maps.flatten(1, 2)
    for number, block in enumerate(stage.blocks):
        # The library's rule for small maps permanently shrinks a block's window, below the size of its bias table.
        shifted = number % 2 == 1 and min(size) > block.window_size
        block.shift_size = block.window_size // 2 if shifted else 0
        tokens, _ = block(tokens, size, always_partition=True)
    if stage.downsample is not None:
        tokens = stage.downsample(tokens, size)
        height, width = (height + 1) // 2, (width + 1) // 2
    return _as_map(tokens, height, width)


def _as_map(tokens: Tensor, height: int, width: int) -> Tensor:
    return tokens.view(len(tokens), height, width, -1)


def swin_t() -> Swin:
    """Swin-T with random weights."""
    return Swin(transformers_library("Swin").SwinConfig())
