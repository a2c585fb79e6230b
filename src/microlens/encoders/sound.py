"""Sound encoders over log-mel spectrograms."""

from collections.abc import Callable

from torch import Tensor, nn

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ItemEncoder
from microlens.encoders.content import ContentEncoder, Missing
from microlens.encoders.trunk import Stage, Trunk, channels_last_on_cpu, one_tensor_stage
from microlens.encoders.tuning import Tuning

STAGE_WIDTHS = (32, 64, 128, 256)


class SoundCNN(Trunk):
    """Four stages, each a 3x3 convolution with stride 2 over time and pitch, BatchNorm and ReLU; then global averaging.

    Small enough to be trained from scratch with the recommender. Accepts log-mel spectrograms with any number of time
    steps and bands, at least 1.
    """

    feature_dim = STAGE_WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        widths_in = (1, *STAGE_WIDTHS[:-1])
        self.blocks = nn.ModuleList(map(_block, widths_in, STAGE_WIDTHS))

    def stages(self) -> list[Stage]:
        """The four convolution blocks."""
        return [one_tensor_stage(block) for block in self.blocks]

    def pool(self, hidden: tuple[Tensor, ...]) -> Tensor:
        """The mean over time and pitch: (M, 256), non-negative."""
        return hidden[0].mean((2, 3))


def _block(width_in: int, width_out: int) -> nn.Sequential:
    convolution = nn.Conv2d(width_in, width_out, 3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(width_out), nn.ReLU(inplace=True))


class SoundEncoder(ContentEncoder):
    """A sound network with a linear projection to D and a GELU. Arguments as for :class:`ContentEncoder`."""

    needs = frozenset({"sound"})

    def content(self, items: ItemBatch) -> Tensor:
        """Log-mel bytes (M, T, mels) as levels (M, 1, T, mels) in [0, 1], from -80 dB to full scale."""
        return channels_last_on_cpu(items.content["sound"].unsqueeze(1).float().div_(255))


def sound_cnn(*, dim: int, tuning: Tuning, missing: Missing = "error") -> SoundEncoder:
    """A small convolutional network over the log-mel spectrogram of the sound, trained from scratch."""
    return SoundEncoder(SoundCNN(), dim, tuning=tuning, missing=missing)


SOUND_ENCODERS: dict[str, Callable[..., ItemEncoder]] = {"sound_cnn": sound_cnn}
