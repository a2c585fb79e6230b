"""Image encoders over covers, or over one frame of the clips."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.encoders.clip import clip_vit_b_32
from microlens.encoders.content import ContentEncoder, Missing
from microlens.encoders.efficientnet_lite import EFFICIENTNET_LITE2_WEIGHTS, EfficientNetLite2
from microlens.encoders.resnet18 import RESNET18_WEIGHTS, ResNet18
from microlens.encoders.swin import swin_t
from microlens.encoders.trunk import Trunk
from microlens.encoders.tuning import Tuning
from microlens.encoders.vit import mae_base
from microlens.encoders.weights import Official, WeightsFile, bring_weights

Source = Literal["cover", "frame"]

KIND_OF_SOURCE = {"cover": "covers", "frame": "clips"}


class ImageEncoder(ContentEncoder):
    """An image network with a linear projection to D, which is trained at the recommender's rate.

    Pictures are loaded as uint8 and normalised on the device. Arguments as for :class:`ContentEncoder`, and

    Args:
        source: the picture to encode: the item's "cover", or the middle "frame" of its clip.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: Trunk, dim: int, *, tuning: Tuning, source: Source, missing: Missing = "error") -> None:
        super().__init__(trunk, dim, tuning=tuning, gelu=False, missing=missing)
        self.needs = frozenset({KIND_OF_SOURCE[source]})
        self.register_buffer("mean", torch.tensor(trunk.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(trunk.std).view(3, 1, 1), persistent=False)

    def content(self, items: ItemBatch) -> Tensor:
        """Normalised pixels (M, 3, H, W) of the middle picture of (M, F, H, W, 3) uint8; for covers F = 1."""
        pictures = self._pictures(items)
        return self._normalised(pictures[:, pictures.shape[1] // 2])

    @property
    def separates_frames(self) -> bool:
        """True over clips, whose frames are encoded one by one."""
        return self.needs == {KIND_OF_SOURCE["frame"]}

    def frame_features(self, items: ItemBatch) -> Tensor:
        """The features of each of the F frames of the clips: (M, F, feature_dim)."""
        pictures = self._pictures(items)
        features = self.trunk.features(self._normalised(pictures.flatten(0, 1)))
        return features.view(*pictures.shape[:2], -1)

    def _pictures(self, items: ItemBatch) -> Tensor:
        (kind,) = self.needs
        return items.content[kind]

    def _normalised(self, pictures: Tensor) -> Tensor:
        """Pixels (m, 3, H, W) of pictures (m, H, W, 3) uint8."""
        pixels = pictures.permute(0, 3, 1, 2).float().div_(255)
        return pixels.sub_(self.mean).div_(self.std)


@dataclass(frozen=True)
class ImageNetwork:
    """An image network: its constructor (random weights) and the location of its official weights."""

    build: Callable[[], Trunk]
    official: WeightsFile


def image_encoder(network: ImageNetwork) -> Callable[..., ItemEncoder]:
    """Return the constructor of the encoder for an image network."""

    def construct(
        *,
        dim: int,
        tuning: Tuning,
        cover_size: int | None = None,
        clip_shape: tuple[int, int] | None = None,
        source: Source = "cover",
        weights: str = "random",
        missing: Missing = "error",
    ) -> ImageEncoder:
        """An image network over the covers, or over the middle frames of the clips."""
        trunk = network.build()
        size = cover_size if source == "cover" else clip_shape and clip_shape[1]
        if size is not None:
            trunk.check_clip(1, size)
        bring_weights(trunk, weights, network.official, tuning)
        return ImageEncoder(trunk, dim, tuning=tuning, source=source, missing=missing)

    return construct


def _hub(model: str, file: str = "model.safetensors") -> Official:
    return Official(f"https://huggingface.co/{model}/resolve/main/{file}")


IMAGE_NETWORKS = {
    "resnet18": ImageNetwork(ResNet18, RESNET18_WEIGHTS),
    "swin_t": ImageNetwork(swin_t, _hub("microsoft/swin-tiny-patch4-window7-224")),
    "mae_base": ImageNetwork(mae_base, _hub("facebook/vit-mae-base", "pytorch_model.bin")),
    "clip_vit_b_32": ImageNetwork(clip_vit_b_32, _hub("openai/clip-vit-base-patch32", "pytorch_model.bin")),
    "efficientnet_lite2": ImageNetwork(EfficientNetLite2, EFFICIENTNET_LITE2_WEIGHTS),
}
IMAGE_ENCODERS: dict[str, Callable[..., ItemEncoder]] = {
    name: image_encoder(network) for name, network in IMAGE_NETWORKS.items()
}
