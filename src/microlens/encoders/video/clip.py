"""Video encoders over clips."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.encoders.content import ContentEncoder, Head, Missing
from microlens.encoders.trunk import Trunk
from microlens.encoders.tuning import Tuning
from microlens.encoders.video.network import VideoNetwork
from microlens.encoders.weights import bring_weights


class VideoEncoder(ContentEncoder):
    """A video network with a linear projection to D and a GELU, as in the original code but without its classifier.

    Clips are loaded as uint8 and normalised on the device. Arguments as for :class:`ContentEncoder`.
    """

    needs = frozenset({"clips"})
    mean: Tensor
    std: Tensor

    def __init__(self, trunk: Trunk, dim: int, *, tuning: Tuning, head: Head, missing: Missing) -> None:
        super().__init__(trunk, dim, tuning=tuning, head=head, missing=missing)
        self.register_buffer("mean", torch.tensor(trunk.mean).view(3, 1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(trunk.std).view(3, 1, 1, 1), persistent=False)

    def content(self, items: ItemBatch) -> Tensor:
        """Normalised pixels (M, 3, F, H, W) of the clips (M, F, H, W, 3) uint8."""
        clips = items.content["clips"].permute(0, 4, 1, 2, 3).float().div_(255)
        return clips.sub_(self.mean).div_(self.std)

    def content_parameters(self) -> Iterator[nn.Parameter]:
        """All parameters: the original code also trains the projection at the video network's rate."""
        yield from self.parameters()


def video_encoder(network: VideoNetwork) -> Callable[..., ItemEncoder]:
    """Return the constructor of the encoder for a video network."""

    def construct(
        *,
        dim: int,
        tuning: Tuning,
        clip_shape: tuple[int, int] | None = None,
        weights: str = "random",
        head: Head = "features",
        missing: Missing = "error",
    ) -> VideoEncoder:
        """A video network over the clips."""
        trunk = network.build()
        if clip_shape is not None:
            trunk.check_clip(*clip_shape)
        bring_weights(trunk, weights, network.official, tuning)
        return VideoEncoder(trunk, dim, tuning=tuning, head=head, missing=missing)

    return construct
