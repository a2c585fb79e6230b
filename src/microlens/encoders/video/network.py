"""Descriptions of video networks: constructor, official weights and native clip shape."""

from collections.abc import Callable
from dataclasses import dataclass

from microlens.encoders.trunk import Trunk
from microlens.encoders.weights import Official, WeightsFile


@dataclass(frozen=True)
class VideoNetwork:
    """A video network: its constructor (random weights), its official weights and its native clips.

    ``frames`` and ``size`` describe the clips that the official weights were trained on; other lengths and sizes are
    accepted, too.
    """

    build: Callable[[], Trunk]
    official: WeightsFile
    frames: int
    size: int


def zoo(name: str, folder: str = "kinetics") -> Official:
    """A file of PyTorchVideo's model zoo; by default with Kinetics-400 weights."""
    return Official(f"https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/{folder}/{name}.pyth")
