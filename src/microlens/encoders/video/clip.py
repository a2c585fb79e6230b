"""Items as what a video network sees in their clips, trained end to end."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.encoders.weights import load_weights


class VideoTrunk(Protocol):
    """What a video network has to offer: pooled features before its classifier, and the pixel statistics it expects."""

    feature_dim: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def features(self, clips: Tensor) -> Tensor:
        """(M, 3, F, H, W) normalised pixels to (M, feature_dim)."""
        ...

    def drop_classifier(self) -> None:
        """Give up what :meth:`features` has no use for."""
        ...


class VideoEncoder(ItemEncoder):
    """A video network, a linear projection to D and a GELU, as in the original code but without the classifier between.

    Clips come as bytes and are normalised on the device.

    Args:
        trunk: the network.
        dim: D.
    """

    needs = frozenset({"clips"})
    mean: Tensor
    std: Tensor

    def __init__(self, trunk: nn.Module, dim: int) -> None:
        super().__init__()
        self.trunk = trunk
        network = cast(VideoTrunk, trunk)
        network.drop_classifier()
        self.register_buffer("mean", torch.tensor(network.mean).view(3, 1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(network.std).view(3, 1, 1, 1), persistent=False)
        self.projection = nn.Linear(network.feature_dim, dim)
        init.xavier_normal_(self.projection.weight)
        init.zeros_(self.projection.bias)

    def forward(self, items: ItemBatch) -> Tensor:
        """Encode the items' clips (M, F, H, W, 3) uint8: (M, D)."""
        clips = items.content["clips"].permute(0, 4, 1, 2, 3).float().div_(255)
        features = cast(VideoTrunk, self.trunk).features(clips.sub_(self.mean).div_(self.std))
        return functional.gelu(self.projection(features))

    def content_parameters(self) -> list[nn.Parameter]:
        """All: the original trains the projection at the video network's rate too."""
        return list(self.parameters())


def video_encoder(build_trunk: Callable[[], nn.Module]) -> Callable[..., VideoEncoder]:
    """The constructor of the encoder around one network.

    The constructor takes ``dim`` and ``weights``: "random", or the path of a state dict of the whole network
    (PyTorchVideo's ``.pyth`` or ``.safetensors``).
    """

    def construct(*, dim: int, weights: str = "random") -> VideoEncoder:
        """What a video network sees in the clips, trained end to end."""
        trunk = build_trunk()
        if weights != "random":
            load_weights(trunk, Path(weights))
        return VideoEncoder(trunk, dim)

    return construct
