"""The contract of networks over raw content: a chain of stages that can be split anywhere."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

Hidden: TypeAlias = tuple[Tensor, ...]


@dataclass(frozen=True)
class Stage:
    """One stage of a trunk: a function of the hidden state, and the modules that it uses."""

    run: Callable[[Hidden], Hidden]
    modules: tuple[nn.Module, ...]


class Trunk(nn.Module, ABC):
    """A network from content to one feature vector per item, as a chain of stages.

    Letters: M items, C channels, F frames, H and W pixels. A hidden state is a tuple of tensors with M rows each. It
    contains everything that later stages need, so that a chain can be split after any stage and the state cached on
    disk. Submodules have the official names, so that official weights load.

    ``feature_dim`` is the size of the features; ``paper_top`` the number of last stages that the paper's "top1" trains;
    ``num_classes`` the number of classes of :meth:`classify`, 0 without a classifier; ``softmax_in_head`` is true if
    the original code left a softmax after the classifier. ``mean`` and ``std`` are the expected pixel statistics.
    ``foreign`` lists prefixes of names in official weight files that are not part of the trunk (decoders, other heads).
    ``pools_every_stage`` is true if :meth:`pool` also takes the hidden states of earlier stages, which are then as wide
    as the last one; ``separates_frames`` is true if :meth:`pool_frames` exists. ``pretrained`` is true once weights of
    a file have been loaded.
    """

    feature_dim: int
    paper_top: int = 1
    num_classes: int = 0
    softmax_in_head: bool = False
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    foreign: tuple[str, ...] = ()
    pools_every_stage: bool = False
    separates_frames: bool = False
    pretrained: bool = False

    def begin(self, content: Tensor) -> Hidden:
        """The first hidden state, computed without parameters from normalised pixels (M, 3, F, H, W), token ids, ..."""
        return (content,)

    @abstractmethod
    def stages(self) -> list[Stage]:
        """The stages, from the stem up; they hold all parameters but those of :meth:`pool` and the classifier.

        The list is built at every call from the current submodules, so that a submodule can be replaced.
        """

    @abstractmethod
    def pool(self, hidden: Hidden) -> Tensor:
        """Pool the last hidden state to (M, feature_dim); its parameters are tuned together with the last stage."""

    def pool_frames(self, hidden: Hidden) -> Tensor:
        """Pool the last hidden state frame by frame, or window by window of sound: (M, T, feature_dim).

        T is the number of frames that are left after the strides of the network.

        Raises:
            TypeError: the network does not keep frames apart (``separates_frames`` is false).
        """
        raise TypeError(f"{type(self).__name__} does not keep frames apart")

    def features(self, content: Tensor) -> Tensor:
        """Run the whole chain on content: (M, feature_dim)."""
        hidden = self.begin(content)
        for stage in self.stages():
            hidden = stage.run(hidden)
        return self.pool(hidden)

    def classify(self, features: Tensor) -> Tensor:
        """Class logits (M, num_classes) of pooled features.

        Raises:
            TypeError: the network has no classifier (``num_classes`` is 0).
        """
        raise TypeError(f"{type(self).__name__} has no classifier")

    def drop_classifier(self) -> None:
        """Remove the classifier, which :meth:`features` does not use."""

    def forward(self, content: Tensor) -> Tensor:
        """Class logits (M, num_classes) of content."""
        return self.classify(self.features(content))

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Translate a state dict of another publisher to this network's names and layouts; by default, no change."""
        return state

    def check_clip(self, frames: int, size: int) -> None:
        """Check that the stem accepts clips of ``frames`` frames and ``size`` pixels.

        Raises:
            ValueError: it does not; the message says which clips are accepted.
        """

    def adapted(self) -> list[str]:
        """Names of the submodules that get low-rank adapters: pointwise convolutions and linear layers of attention."""
        return [name for name, module in self.named_modules() if is_pointwise(module)]


def is_pointwise(module: nn.Module) -> bool:
    """True if ``module`` is a convolution over all channels with kernel size 1."""
    return isinstance(module, nn.Conv2d | nn.Conv3d) and set(module.kernel_size) == {1} and module.groups == 1


def one_tensor_stage(module: nn.Module) -> Stage:
    """The stage that applies one module to a hidden state of one tensor."""
    return Stage(lambda hidden: (module(hidden[0]),), (module,))


def channels_last_on_cpu(pixels: Tensor) -> Tensor:
    """Convert (M, C, F, H, W) or (M, C, H, W) to channels-last on the CPU, which makes oneDNN 2 to 3 times as fast."""
    if pixels.device.type != "cpu":
        return pixels
    layout = torch.channels_last_3d if pixels.dim() == 5 else torch.channels_last
    return pixels.contiguous(memory_format=layout)
