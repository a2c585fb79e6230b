"""What torchvision's residual networks of basic blocks share, over pictures and over clips."""

from typing import ClassVar

from torch import Tensor, nn

from microlens.encoders.trunk import Hidden, Trunk

STAGE_WIDTHS = (64, 128, 256, 512)
BLOCKS_PER_STAGE = 2


class BasicBlockNetwork(Trunk):
    """A stem, four stages of two residual blocks, and a linear classifier ``fc``.

    A subclass defines its ``convolution`` and ``num_classes``, and makes the stem.
    """

    convolution: ClassVar[type[nn.Module]]
    feature_dim = STAGE_WIDTHS[-1]

    def add_stages(self, block: type[nn.Module]) -> None:
        """Make ``layer1`` to ``layer4`` of residual blocks, and the classifier ``fc``."""
        self.layer1 = _stage(block, STAGE_WIDTHS[0], STAGE_WIDTHS[0])
        self.layer2 = _stage(block, STAGE_WIDTHS[0], STAGE_WIDTHS[1])
        self.layer3 = _stage(block, STAGE_WIDTHS[1], STAGE_WIDTHS[2])
        self.layer4 = _stage(block, STAGE_WIDTHS[2], STAGE_WIDTHS[3])
        self.fc: nn.Module = nn.Linear(self.feature_dim, self.num_classes)

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


def _stage(block: type[nn.Module], channels_in: int, channels_out: int) -> nn.Sequential:
    """Residual blocks; the first one halves the resolution if the stage widens."""
    widths = [channels_in] + [channels_out] * (BLOCKS_PER_STAGE - 1)
    return nn.Sequential(*(block(width, channels_out) for width in widths))
