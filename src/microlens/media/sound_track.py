"""Samples of the middle of a file's sound track: the mono mix, and the contribution of each channel to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from microlens.media.reading import VIDEO_FORMATS, MediaFault, open_media

Samples: TypeAlias = NDArray[np.float32]
Times: TypeAlias = NDArray[np.float64]
Packet: TypeAlias = "av.Packet[AudioStream]"

SOUND_FORMATS = VIDEO_FORMATS + ",wav,w64,mp3,aac,flac,ac3,eac3,aiff,amr,au,caf,wv,tta"
# Formats without a header that lists all streams; if no sound is found at first, the whole file is searched.
_WITHOUT_HEADER = {"mpegts", "mpeg", "flv", "live_flv"}
# In these formats files are joined by concatenation, and a longer gap is a restart of the clock.
_JOINED = {"mpegts", "mpeg"}
_LONGEST_GAP_SECONDS = 10
# Decoders of MP3, AAC and Opus need some preceding audio to start cleanly.
_LEAD_IN_SECONDS = 0.5
_SILENCE = 1e-4  # -80 dB of full scale


@dataclass(frozen=True)
class Sound:
    """Samples at one rate: ``mix`` (N,), and the contributions ``channels`` (C, N), whose sum is the mix."""

    mix: Samples
    channels: Samples


def read_sound(path: Path, seconds: float, sample_rate: int) -> Sound:
    """Read up to ``seconds`` around the middle of a file's sound track; full scale is -1..1.

    Parts are concatenated where rate, layout or sample format change within the track, or its clock restarts.

    Raises:
        MediaFault: the file has no sound track, there is no decoder for it, or nothing can be decoded.
    """
    with open_media(path, SOUND_FORMATS) as container:
        known = any(stream.codec_context and stream.codec_context.sample_rate for stream in container.streams.audio)
        if known or not _WITHOUT_HEADER & set(container.format.name.split(",")):
            return _middle(container, seconds, sample_rate)
    with open_media(path, SOUND_FORMATS, thorough=True) as container:
        return _middle(container, seconds, sample_rate)


def _middle(container: InputContainer, seconds: float, sample_rate: int) -> Sound:
    streams = container.streams.audio
    if not streams:
        raise MediaFault("no sound track")
    stream = next((stream for stream in streams if stream.codec_context is not None), None)
    if stream is None:
        raise MediaFault("there is no decoder for its sound codec")
    packets = _readable_packets(container, stream)
    if not packets:
        raise MediaFault("truncated: no sound could be decoded")
    unit = float(stream.time_base or 1)
    joined = bool(_JOINED & set(container.format.name.split(",")))
    begins, ends = _times(packets, _LONGEST_GAP_SECONDS / unit if joined else np.inf)
    begins, ends = begins * unit, ends * unit
    start, end = float(begins[0]), float(ends[-1])
    if start == end:
        end = start + seconds  # the file does not state the duration
    first = max(start, (start + end - seconds) / 2)
    last = min(end, first + seconds)
    near = (begins >= first - _LEAD_IN_SECONDS) & (begins < last) | (begins <= first) & (ends > first)
    chosen = [packets[i] for i in np.flatnonzero(near)]
    return _between(_decoded(stream, chosen), first, last, sample_rate)


def _readable_packets(container: InputContainer, stream: AudioStream) -> list[Packet]:
    packets = []
    try:
        for packet in container.demux(stream):
            if packet.size and not packet.is_corrupt:
                packets.append(packet)  # noqa: PERF401 - packets read before an error are kept
    except av.error.FFmpegError:
        pass  # the rest of the file is missing; use the middle of what was read
    except IndexError:
        pass  # PyAV fails on a stream that appears after opening; by then all packets were read
    return packets


def _times(packets: list[Packet], longest_gap: float) -> tuple[Times, Times]:
    """The start and end of P packets, (P,) each in the stream's time base; also assigns these times to the packets.

    After a restart of the clock, packets follow those before them in the file. Missing times are interpolated.
    """
    numbers = np.arange(len(packets))
    known = np.array([i for i, packet in enumerate(packets) if packet.pts is not None], np.int64)
    given = np.array([packet.pts for packet in packets if packet.pts is not None], np.float64)
    steps = np.diff(given) / np.diff(known)
    usual = float(np.median(steps)) if (steps > 0).any() else 0.0
    begins = np.zeros(len(packets))
    if len(known):
        begins = np.interp(numbers, known, given) + usual * np.maximum(0, numbers - known[-1])
    ends = begins + np.array([packet.duration or (usual if packet.pts is None else 0) for packet in packets])
    shift = latest = 0.0
    for i, packet in enumerate(packets):
        if i and not latest <= begins[i] + shift <= ends[i - 1] + longest_gap:
            shift = ends[i - 1] - begins[i]
        begins[i] += shift
        ends[i] += shift
        latest = begins[i]
        if shift or packet.pts is None:
            packet.pts = packet.dts = round(begins[i])
    return begins, ends


def _decoded(stream: AudioStream, packets: list[Packet]) -> Iterator[AudioFrame]:
    for packet in [*packets, None]:
        try:
            yield from stream.codec_context.decode(packet)
        except av.error.FFmpegError:
            continue  # a damaged packet is a few hundredths of a second


def _between(frames: Iterator[AudioFrame], first: float, last: float, sample_rate: int) -> Sound:
    """The sound from ``first`` to ``last`` seconds on the track's clock."""
    length = round((last - first) * sample_rate)
    track = np.empty((1, 0), np.float32)  # (1 + C, N): the mix, then the channels
    begin: float | None = None
    for _, group in groupby(frames, lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate)):
        part = list(group)
        time = next((frame.time for frame in part if frame.time is not None), None)
        begin = time if begin is None else begin
        gap = 0 if time is None or begin is None else round((time - begin) * sample_rate) - track.shape[1]
        track = _appended(track, min(max(0, gap), length), _mixed(part, sample_rate))
    if not track.size:
        raise MediaFault("damaged: no sound could be decoded")
    skip = 0 if begin is None else max(0, round((first - begin) * sample_rate))
    track = track[:, skip : skip + length]
    return Sound(mix=track[0], channels=track[1:])


def _appended(track: Samples, gap: int, part: Samples) -> Samples:
    """Concatenate ``track`` (1 + C, N), a gap of silence and ``part`` (1 + C', N'), with the larger channel count."""
    rows = max(len(track), len(part))
    pieces = (track, np.zeros((1, gap), np.float32), part)
    return np.concatenate([np.pad(piece, ((0, rows - len(piece)), (0, 0))) for piece in pieces], axis=1)


def _mixed(frames: list[AudioFrame], sample_rate: int) -> Samples:
    """The mix of frames of one format, followed by the contributions of its C channels: (1 + C, N)."""
    layout = frames[0].layout
    channels = _resampled(frames, layout, sample_rate)
    if layout.name == "mono":
        return np.repeat(channels, 2, axis=0)
    weights = _mix_weights(layout.name)
    shares = weights[:, None] * channels
    if np.abs(shares).max(initial=0) <= _SILENCE < np.abs(channels).max(initial=0):
        shares = channels / len(channels)  # the layout has no mix, or its mix omits the only audible channel (LFE)
        return np.concatenate([shares.sum(axis=0, keepdims=True), shares])
    mix = _resampled(frames, AudioLayout("mono"), sample_rate)
    return np.concatenate([mix, shares])


def _resampled(frames: list[AudioFrame], layout: AudioLayout, sample_rate: int) -> Samples:
    """Resample frames of one format: (C, N)."""
    resampler = av.AudioResampler(format="flt", layout=layout.name, rate=sample_rate)
    pieces = [piece.to_ndarray()[0] for frame in [*frames, None] for piece in resampler.resample(frame)]
    samples: Samples = np.concatenate(pieces).reshape(-1, layout.nb_channels).T
    return samples


@lru_cache(maxsize=64)
def _mix_weights(layout: str) -> Samples:
    """The weight of each of C channels in FFmpeg's mono mix, (C,); zeros if the layout has no mix."""
    number = AudioLayout(layout).nb_channels
    clicks = np.eye(number, dtype=np.float32)  # one impulse per channel, at successive samples
    frame = AudioFrame.from_ndarray(clicks.reshape(1, -1), format="flt", layout=layout)
    frame.sample_rate = 48000
    try:
        weights: Samples = _resampled([frame], AudioLayout("mono"), frame.sample_rate)[0]
        return weights
    except av.error.FFmpegError:
        return np.zeros(number, np.float32)
