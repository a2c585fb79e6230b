"""What torchvision's residual networks of basic blocks share, over pictures and over clips."""

from typing import ClassVar

from torch import Tensor, nn

from microlens.encoders.trunk import Hidden, Trunk

STAGE_WIDTHS = (64, 128, 256, 512)
BLOCKS_PER_STAGE = 2


class BasicBlockNetwork(Trunk):
    """A stem, four stages of two residual blocks, and a linear classifier ``fc``.

    A subclass names its ``convolution`` and makes the stem, the stages and ``fc``.
    """

    convolution: ClassVar[type[nn.Module]]
    feature_dim = STAGE_WIDTHS[-1]
    fc: nn.Module

    def pool(self, hidden: Hidden) -> Tensor:
        """The average over all positions: (M, 512), non-negative."""
        return hidden[0].mean(dim=tuple(range(2, hidden[0].ndim)))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (M, C) of pooled features."""
        logits: Tensor = self.fc(features)
        return logits

    def drop_classifier(self) -> None:
        """Remove the classifier, which the head "features" does not use."""
        self.fc = nn.Identity()

    def adapted(self) -> list[str]:
        """All convolutions, because only the shortcuts have pointwise ones."""
        return [name for name, module in self.named_modules() if isinstance(module, self.convolution)]


def stage(block: type[nn.Module], channels_in: int, channels_out: int) -> nn.Sequential:
    """Residual blocks; the first one halves the resolution if the stage widens."""
    widths = [channels_in] + [channels_out] * (BLOCKS_PER_STAGE - 1)
    return nn.Sequential(*(block(width, channels_out) for width in widths))
