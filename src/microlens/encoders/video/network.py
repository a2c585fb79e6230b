"""What a family of video networks puts on offer: how to build each, its official weights, the clips they know."""

from collections.abc import Callable
from dataclasses import dataclass

from microlens.encoders.trunk import Trunk
from microlens.encoders.weights import Official


@dataclass(frozen=True)
class VideoNetwork:
    """One network: how to build it with random weights, where its official weights are, and their native clips.

    ``frames`` and ``size`` are the clips that the official weights were trained on; other lengths and sizes are
    admitted too.
    """

    build: Callable[[], Trunk]
    official: Official
    frames: int
    size: int


def zoo(name: str, folder: str = "kinetics") -> Official:
    """A file of PyTorchVideo's model zoo, Kinetics-400 weights by default."""
    return Official(f"https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/{folder}/{name}.pyth")
