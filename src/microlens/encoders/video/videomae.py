"""VideoMAE video networks: a plain vision transformer over tubelets of 2 frames and 16x16 pixels.

Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training",
NeurIPS 2022, arXiv 2203.12602. The layers are those of the transformers library. No token is masked. Clips need at
least 2 frames; an odd last frame is dropped. Positions are VideoMAE's fixed sinusoids, numbered tubelet by tubelet on
its 14x14 grid: a short clip uses the first ones, and for clips of another size they are interpolated.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from microlens.encoders.huggingface import HuggingFaceTrunk, check_patches, transformers_library, with_prefix
from microlens.encoders.trunk import Hidden, Stage, one_tensor_stage
from microlens.encoders.video.network import VideoNetwork
from microlens.encoders.weights import Official

KINETICS_CLASSES = 400


class VideoMAE(HuggingFaceTrunk):
    """The VideoMAE encoder: embedding and transformer layers (Tong et al. 2022).

    A self-supervised model ends with a norm over its tokens. A fine-tuned one (``use_mean_pooling``) has none; its
    classifier is a norm and a linear layer over the mean of the tokens.

    Args:
        config: a VideoMAEConfig of the transformers library.
    """

    paper_top = 2
    pools_every_stage = True
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    foreign: tuple[str, ...] = ("encoder_to_decoder.", "mask_token", "decoder.")
    renamed = (
        ("attention.attention.query.bias", "attention.attention.q_bias"),
        ("attention.attention.value.bias", "attention.attention.v_bias"),
    )

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.settings = config
        self.feature_dim = config.hidden_size
        self.videomae = transformers_library("VideoMAE").VideoMAEModel(config)
        if config.use_mean_pooling:
            self.num_classes = config.num_labels
            self.fc_norm: nn.Module = nn.LayerNorm(config.hidden_size)
            self.classifier: nn.Module = nn.Linear(config.hidden_size, config.num_labels)
            nn.init.normal_(self.classifier.weight, std=config.initializer_range)
            nn.init.zeros_(self.classifier.bias)

    def check_clip(self, frames: int, size: int) -> None:
        """Reject clips shorter than a tubelet, and sizes that are not a multiple of 16."""
        if frames < self.settings.tubelet_size:
            raise ValueError(f"clips have {frames} frame; VideoMAE accepts {self.settings.tubelet_size} and more.")
        check_patches("VideoMAE", size, patch=self.settings.patch_size, native=self.settings.image_size)

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the prefix to names of files of the encoder alone."""
        return with_prefix(state, "videomae.")

    def stages(self) -> list[Stage]:
        """The embedding of tubelets with positions, and the layers."""
        layers = [one_tensor_stage(layer) for layer in self.videomae.encoder.layer]
        return [Stage(lambda hidden: (self._embed(hidden[0]),), (self.videomae.embeddings,)), *layers]

    def _embed(self, clips: Tensor) -> Tensor:
        """Map (M, 3, F, H, W) to tokens (M, tubelets * patches, feature_dim)."""
        tubelets: Tensor = self.videomae.embeddings.patch_embeddings.projection(clips)
        frames, height, width = tubelets.shape[2:]
        native = self.settings.image_size // self.settings.patch_size
        table = sinusoids(frames * native**2, self.feature_dim, tubelets.device)
        if (height, width) != (native, native):
            grid = table.view(frames, native, native, -1).permute(0, 3, 1, 2)
            stretched = functional.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
            table = stretched.permute(0, 2, 3, 1).flatten(0, 2)
        return tubelets.flatten(2).transpose(1, 2) + table

    def pool(self, hidden: Hidden) -> Tensor:
        """The mean over all tokens."""
        norm = self.videomae.layernorm
        return (hidden[0] if norm is None else norm(hidden[0])).mean(1)

    def classify(self, features: Tensor) -> Tensor:
        """Kinetics-400 logits (M, 400)."""
        logits: Tensor = self.classifier(self.fc_norm(features))
        return logits

    def drop_classifier(self) -> None:
        """Remove the norm and the linear layer of the classifier."""
        if self.num_classes:
            self.fc_norm, self.classifier = nn.Identity(), nn.Identity()


def sinusoids(positions: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sines in even columns and cosines in odd ones, with wavelengths from 2 pi to 10000 * 2 pi: (positions, width).

    Vaswani et al. 2017, arXiv 1706.03762, section 3.5.
    """
    columns = torch.arange(width, device=device)
    frequencies = 10000.0 ** -(2 * (columns // 2).double() / width)
    angles = torch.arange(positions, device=device).double()[:, None] * frequencies
    return torch.where(columns % 2 == 0, angles.sin(), angles.cos()).float()


def videomae_base(*, fine_tuned: bool) -> VideoMAE:
    """VideoMAE-B for 16 frames of 224x224 pixels, with random weights; ``fine_tuned`` adds a Kinetics classifier."""
    config = transformers_library("VideoMAE").VideoMAEConfig(use_mean_pooling=fine_tuned, num_labels=KINETICS_CLASSES)
    return VideoMAE(config)


def _hub(model: str) -> Official:
    return Official(f"https://huggingface.co/MCG-NJU/{model}/resolve/main/model.safetensors")


VIDEOMAE_NETWORKS = {
    "videomae": VideoNetwork(partial(videomae_base, fine_tuned=False), _hub("videomae-base"), frames=16, size=224),
    "videomae_kinetics": VideoNetwork(
        partial(videomae_base, fine_tuned=True), _hub("videomae-base-finetuned-kinetics"), frames=16, size=224
    ),
}
