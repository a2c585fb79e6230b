"""What a network over raw content offers: a chain of stages that can be cut anywhere."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

Hidden: TypeAlias = tuple[Tensor, ...]


@dataclass(frozen=True)
class Stage:
    """One link of a trunk's chain: what it does to the hidden state, and the modules that it does it with."""

    run: Callable[[Hidden], Hidden]
    modules: tuple[nn.Module, ...]


class Trunk(nn.Module, ABC):
    """A network from content to one feature vector an item, as a chain of stages.

    Letters: M items, C channels, F frames, H and W pixels. A hidden state is a tuple of tensors of M rows each; what
    lies between two stages says everything that the later ones need, so that a chain may be cut there and the state
    kept on disk. Submodules carry the official names, so that official weights fit.

    ``feature_dim`` is the size of the features; ``paper_top`` how many last stages the paper's "top1" trains;
    ``num_classes`` what :meth:`classify` tells apart, 0 without a classifier; ``softmax_in_head`` whether the original
    code left a softmax behind the classifier. ``mean`` and ``std`` are the statistics of the pixels it expects.
    ``foreign`` names what official weight files hold beyond the trunk, by prefix (decoders, heads of other tasks).
    """

    feature_dim: int
    paper_top: int = 1
    num_classes: int = 0
    softmax_in_head: bool = False
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    foreign: tuple[str, ...] = ()

    def begin(self, content: Tensor) -> Hidden:
        """The first hidden state, without any parameters: normalised pixels (M, 3, F, H, W), token ids, ..."""
        return (content,)

    @abstractmethod
    def stages(self) -> list[Stage]:
        """The chain, from the stem up; together they hold all parameters but those of :meth:`pool` and the classifier.

        Made anew at every call from the submodules as they are, so that a submodule may be replaced.
        """

    @abstractmethod
    def pool(self, hidden: Hidden) -> Tensor:
        """What the last stage left to (M, feature_dim); its parameters are tuned together with the last stage."""

    def features(self, content: Tensor) -> Tensor:
        """The whole chain: content to (M, feature_dim)."""
        hidden = self.begin(content)
        for stage in self.stages():
            hidden = stage.run(hidden)
        return self.pool(hidden)

    def classify(self, features: Tensor) -> Tensor:
        """Class logits (M, num_classes) of pooled features.

        Raises:
            TypeError: the network has no classifier, ``num_classes`` being 0.
        """
        raise TypeError(f"{type(self).__name__} has no classifier")

    def drop_classifier(self) -> None:
        """Give up what :meth:`features` has no use for."""

    def forward(self, content: Tensor) -> Tensor:
        """Class logits (M, num_classes) of content."""
        return self.classify(self.features(content))

    def check_clip(self, frames: int, size: int) -> None:
        """Refuse clips that the stem does not admit.

        Raises:
            ValueError: says which clips are accepted.
        """

    def adapted(self) -> list[str]:
        """The submodules that low-rank adapters go to: pointwise convolutions, and the linear layers of attention."""
        return [name for name, module in self.named_modules() if is_pointwise(module)]


def is_pointwise(module: nn.Module) -> bool:
    """Whether ``module`` is a convolution of one pixel and frame over all channels."""
    return isinstance(module, nn.Conv2d | nn.Conv3d) and set(module.kernel_size) == {1} and module.groups == 1


def one_tensor_stage(module: nn.Module) -> Stage:
    """The stage that is one module over the first and only tensor of the state."""
    return Stage(lambda hidden: (module(hidden[0]),), (module,))


def channels_last_on_cpu(pixels: Tensor) -> Tensor:
    """(M, C, F, H, W) or (M, C, H, W) as it is convolved fastest: oneDNN is 2 to 3 times as fast on channels-last."""
    if pixels.device.type != "cpu":
        return pixels
    layout = torch.channels_last_3d if pixels.dim() == 5 else torch.channels_last
    return pixels.contiguous(memory_format=layout)
