"""The sound of a video as a log-mel picture: energy by time and pitch, one byte a value."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from microlens.data.media import VIDEO_FORMATS, MediaFault, open_media
from microlens.errors import InputError

LogMel: TypeAlias = NDArray[np.uint8]
Packet: TypeAlias = "av.Packet[AudioStream]"

FLOOR_DECIBELS = -80.0
_LOWEST_HERTZ = 20.0
_SOUND_FORMATS = VIDEO_FORMATS + ",wav,w64,mp3,aac,flac,ac3,eac3,aiff,amr,au,caf,wv,tta"
# Decoders of MP3, AAC and Opus need a little of what came before to start cleanly.
_LEAD_IN_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class SoundSettings:
    """How a sound track becomes a log-mel picture.

    sample_rate in Hz; num_mels bands from 20 Hz to half the sample rate; a window of `window_milliseconds` every
    `hop_milliseconds`; `seconds` are taken around the middle of the track.

    Raises:
        InputError: a value is out of range, or there are too many bands for so short a window.
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
        if self.num_mels < 1 or not mel_filterbank(self.sample_rate, self.fft_size, self.num_mels).any(axis=0).all():
            raise InputError(
                f"sound settings: num_mels is {self.num_mels}; accepted are 1 or more, each wide enough for "
                f"a window of {self.window_milliseconds:g} ms to tell apart"
            )

    @property
    def window(self) -> int:
        """Samples in a window."""
        return round(self.sample_rate * self.window_milliseconds / 1000)

    @property
    def hop(self) -> int:
        """Samples from one window to the next."""
        return round(self.sample_rate * self.hop_milliseconds / 1000)

    @property
    def shape(self) -> tuple[int, int]:
        """The (T, num_mels) of a track as long as is taken."""
        samples = round(self.seconds * self.sample_rate)
        return 1 + (samples - self.window) // self.hop, self.num_mels

    @property
    def fft_size(self) -> int:
        """The power of two that holds a window."""
        return 1 << (self.window - 1).bit_length()


def read_log_mel(path: Path, settings: SoundSettings) -> LogMel:
    """Log-mel energies (T, num_mels) uint8 around the middle of the sound track, channels mixed to one.

    0..255 stand for -80..0 dB of full scale, linearly (see `decibels`). T = 1 + (samples - window) // hop: 998 for the
    default settings, fewer where the track is shorter.

    Raises:
        MediaFault: the file has no sound track, or none of it can be decoded.
    """
    return log_mel(_read_samples(path, settings), settings)


def log_mel(samples: NDArray[np.float32], settings: SoundSettings) -> LogMel:
    """Log-mel energies (T, num_mels) uint8 of mono samples (N,) in -1..1; a shorter sound than one window is padded.

    0 dB is the energy of a full-scale sine, all of it in one band. Bands are triangles of height 1, evenly spaced on
    the HTK mel scale.
    """
    samples = np.pad(samples, (0, max(0, settings.window - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(samples, settings.window)[:: settings.hop]  # (T, window)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(settings.window) / settings.window)
    spectrum = np.fft.rfft(windows * hann.astype(np.float32), settings.fft_size)
    power = np.abs(spectrum) ** 2 / (settings.fft_size * np.sum(hann**2) / 4)  # sums to 1 for a full-scale sine
    energy = power @ mel_filterbank(settings.sample_rate, settings.fft_size, settings.num_mels)
    level = 10 * np.log10(np.maximum(energy, 10 ** (FLOOR_DECIBELS / 10)))
    values: LogMel = np.rint(np.clip(1 - level / FLOOR_DECIBELS, 0, 1) * 255).astype(np.uint8)
    return values


def decibels(values: LogMel) -> NDArray[np.float32]:
    """The levels in dB of full scale, -80..0, that log-mel bytes of any shape stand for."""
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


def _read_samples(path: Path, settings: SoundSettings) -> NDArray[np.float32]:
    """Mono samples (N,) in -1..1 of the middle of the track, N at most seconds * sample_rate."""
    with open_media(path, _SOUND_FORMATS) as container:
        if not container.streams.audio:
            raise MediaFault("no sound track")
        stream = container.streams.audio[0]
        packets = _readable_packets(container, stream)
        if not packets:
            raise MediaFault("truncated: no sound could be decoded")
        unit = float(stream.time_base or 1)
        begins = np.array([packet.pts or 0 for packet in packets]) * unit
        start, end = float(begins[0]), float(begins[-1]) + (packets[-1].duration or 0) * unit
        first = max(start, (start + end - settings.seconds) / 2)
        last = min(end, first + settings.seconds)
        near = np.flatnonzero((begins >= first - _LEAD_IN_SECONDS) & (begins < last))
        return _decode_between(stream, [packets[i] for i in near], first, last, settings.sample_rate)


def _readable_packets(container: InputContainer, stream: AudioStream) -> list[Packet]:
    packets = []
    try:
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and not packet.is_corrupt:
                packets.append(packet)  # noqa: PERF401 - what was read before an error counts
    except av.error.FFmpegError:
        pass  # the rest of the file is missing; the middle of what is there is taken
    return packets


def _decode_between(
    stream: AudioStream, packets: list[Packet], first: float, last: float, sample_rate: int
) -> NDArray[np.float32]:
    """Samples of the packets from `first` to `last` seconds of the track's own clock."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate)
    pieces: list[NDArray[np.float32]] = []
    begin: float | None = None
    for packet in [*packets, None]:
        try:
            frames = stream.codec_context.decode(packet)
        except av.error.FFmpegError:
            continue  # a damaged packet is a few hundredths of a second
        for frame in frames:
            begin = frame.time if begin is None else begin
            pieces.extend(piece.to_ndarray()[0] for piece in resampler.resample(frame))
    if begin is None:
        raise MediaFault("damaged: no sound could be decoded")
    pieces.extend(piece.to_ndarray()[0] for piece in resampler.resample(None))
    samples = np.concatenate(pieces)
    skip = max(0, round((first - begin) * sample_rate))
    return samples[skip : skip + round((last - first) * sample_rate)]
