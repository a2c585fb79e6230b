"""Log-mel spectrograms of sound tracks, one byte per value."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from microlens.errors import InputError

if TYPE_CHECKING:
    from microlens.media.sound_track import Sound

LogMel: TypeAlias = NDArray[np.uint8]
Energy: TypeAlias = NDArray[np.floating]

FLOOR_DECIBELS = -80.0
_LOWEST_HERTZ = 20.0
# Channels cancel if their mix, over a quarter of a second, has less than this fraction of their summed energy.
_CANCELLED = 0.1
_CANCELLED_WINDOWS = 25


@dataclass(frozen=True, kw_only=True)
class SoundSettings:
    """How a sound track is converted to a log-mel spectrogram.

    sample_rate in Hz; num_mels bands from 20 Hz to half the sample rate; a window of `window_milliseconds` every
    `hop_milliseconds`; `seconds` are taken around the middle of the track.

    Raises:
        InputError: a value is out of range, or there are too many bands for the length of the window.
    """

    sample_rate: int = 16000
    num_mels: int = 64
    window_milliseconds: float = 25.0
    hop_milliseconds: float = 10.0
    seconds: float = 10.0

    def __post_init__(self) -> None:
        if not 4000 <= self.sample_rate <= 192000:
            raise InputError(f"sound settings: sample_rate is {self.sample_rate}; accepted are 4000 to 192000 Hz")
        if not 0 < self.hop_milliseconds <= self.window_milliseconds <= 1000 * self.seconds:
            raise InputError("sound settings: accepted are 0 < hop_milliseconds <= window_milliseconds <= the seconds")
        if self.seconds > 3600:
            raise InputError(f"sound settings: seconds is {self.seconds:g}; accepted are up to 3600")
        if self.num_mels < 1 or not mel_filterbank(self.sample_rate, self.fft_size, self.num_mels).any(axis=0).all():
            raise InputError(
                f"sound settings: num_mels is {self.num_mels}; accepted are 1 or more, each wide enough for "
                f"a window of {self.window_milliseconds:g} ms to tell apart"
            )

    @property
    def window(self) -> int:
        """Window length in samples."""
        return round(self.sample_rate * self.window_milliseconds / 1000)

    @property
    def hop(self) -> int:
        """Hop length in samples."""
        return round(self.sample_rate * self.hop_milliseconds / 1000)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (T, num_mels) for a track of at least `seconds`."""
        samples = round(self.seconds * self.sample_rate)
        return 1 + (samples - self.window) // self.hop, self.num_mels

    @property
    def fft_size(self) -> int:
        """The smallest power of two that holds a window."""
        return 1 << (self.window - 1).bit_length()


def read_log_mel(path: Path, settings: SoundSettings) -> LogMel:
    """Log-mel energies (T, num_mels) uint8 around the middle of the sound track, mixed to mono.

    0..255 are -80..0 dB of full scale, linearly (see `decibels`). T = 1 + (samples - window) // hop: 998 for the
    default settings, fewer for shorter tracks. Where channels cancel in the mix, a band gets the energy of the channels
    added in phase.

    Raises:
        MediaFault: the file has no sound track, there is no decoder for it, or nothing can be decoded.
    """
    from microlens.media.faults import faults_of  # slow to import
    from microlens.media.sound_track import read_sound

    with faults_of(path):
        sound = read_sound(path, settings.seconds, settings.sample_rate)
        return _bytes(_energy_of(sound, settings))


def log_mel(samples: NDArray[np.float32], settings: SoundSettings) -> LogMel:
    """Log-mel energies (T, num_mels) uint8 of mono samples (N,) in -1..1, padded to at least one window.

    0 dB is the energy of a full-scale sine within one band. Bands are triangles of height 1, evenly spaced on the HTK
    mel scale.
    """
    return _bytes(_energy(samples, settings))


def _energy_of(sound: "Sound", settings: SoundSettings) -> Energy:
    """Energies (T, num_mels) of the mix; bands in which the C channels cancel use the channels' energies instead."""
    energy = _energy(sound.mix, settings)
    if len(sound.channels) == 1:
        return energy
    channels = np.stack([_energy(channel, settings) for channel in sound.channels])  # (C, T, num_mels)
    in_phase = np.sqrt(channels).sum(axis=0) ** 2
    together = channels.sum(axis=0)
    for rows in np.array_split(np.arange(len(energy)), max(1, len(energy) // _CANCELLED_WINDOWS)):
        cancelled = energy[rows].sum(axis=0) < _CANCELLED * together[rows].sum(axis=0)  # (num_mels,)
        energy[rows] = np.where(cancelled, in_phase[rows], energy[rows])
    return energy


def _energy(samples: NDArray[np.float32], settings: SoundSettings) -> Energy:
    samples = np.pad(samples, (0, max(0, settings.window - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(samples, settings.window)[:: settings.hop]  # (T, window)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(settings.window) / settings.window)
    spectrum = np.fft.rfft(windows * hann.astype(np.float32), settings.fft_size)
    power = np.abs(spectrum) ** 2 / (settings.fft_size * np.sum(hann**2) / 4)  # sums to 1 for a full-scale sine
    energy: Energy = power @ mel_filterbank(settings.sample_rate, settings.fft_size, settings.num_mels)
    return energy


def _bytes(energy: Energy) -> LogMel:
    level = 10 * np.log10(np.maximum(energy, 10 ** (FLOOR_DECIBELS / 10)))
    values: LogMel = np.rint(np.clip(1 - level / FLOOR_DECIBELS, 0, 1) * 255).astype(np.uint8)
    return values


def decibels(values: LogMel) -> NDArray[np.float32]:
    """Convert log-mel bytes of any shape to levels in dB of full scale, -80..0."""
    levels = (values.astype(np.float32) / 255 - 1) * -FLOOR_DECIBELS
    return levels.astype(np.float32)


@lru_cache(maxsize=8)
def mel_filterbank(sample_rate: int, fft_size: int, num_mels: int) -> NDArray[np.float64]:
    """Weights (fft_size // 2 + 1, num_mels) of triangles with height 1, evenly spaced in mel = 2595 log10(1 + f/700).

    Source: S. Young et al., The HTK Book, section 5.4.
    """
    edges_mel = np.linspace(_hertz_to_mel(_LOWEST_HERTZ), _hertz_to_mel(sample_rate / 2), num_mels + 2)
    edges = 700 * (10 ** (edges_mel / 2595) - 1)
    frequencies = np.arange(fft_size // 2 + 1)[:, None] * sample_rate / fft_size
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    weights: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    weights.flags.writeable = False
    return weights


def _hertz_to_mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))
