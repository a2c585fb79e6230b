"""Videos and pictures that carry numbers, written by PyAV: what a test sees tells which frame it is."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

HEIGHT, WIDTH = 64, 96
SUBTITLE_STYLES = (
    b"[V4+ Styles]\nFormat: Name, Fontname, Fontsize\nStyle: Default,Arial,16\n[Events]\nFormat: Layer, Text\n"
)
FASTSTART = {"movflags": "faststart"}
# name: (file ending, codec, codec options, container options)
ENCODINGS = {
    "h264, one keyframe, B-frames": ("mp4", "libx264", {"g": "250", "bf": "3", "sc_threshold": "0"}, {}),
    "h264, keyframe every 12": ("mp4", "libx264", {"g": "12", "bf": "3", "sc_threshold": "0"}, {}),
    "h264, open groups": ("mp4", "libx264", {"x264-params": "open-gop=1:keyint=12:bframes=3:scenecut=0"}, {}),
    "h264, no B-frames": ("mp4", "libx264", {"g": "250", "bf": "0", "sc_threshold": "0"}, {}),
    "h264, fragmented": (
        "mp4",
        "libx264",
        {"g": "12", "sc_threshold": "0"},
        {"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    ),
    "h264 in mkv": ("mkv", "libx264", {"g": "12", "bf": "3", "sc_threshold": "0"}, {}),
    "h264 in mkv, no duration": ("mkv", "libx264", {"g": "12", "bf": "3", "sc_threshold": "0"}, {"live": "1"}),
    "h264 in ts": ("ts", "libx264", {"g": "12", "bf": "3", "sc_threshold": "0"}, {}),
    "h264 in avi": ("avi", "libx264", {"g": "12", "bf": "3", "sc_threshold": "0"}, {}),
    "hevc, one keyframe": ("mp4", "libx265", {"x265-params": "log-level=none:keyint=250:bframes=4"}, {}),
    "hevc, open groups": ("mp4", "libx265", {"x265-params": "log-level=none:keyint=12:open-gop=1:bframes=4"}, {}),
    "hevc, temporal layers": (
        "mp4",
        "libx265",
        {"x265-params": "log-level=none:keyint=32:temporal-layers=3:bframes=4"},
        {},
    ),
    "mpeg4": ("mp4", "mpeg4", {"g": "12", "bf": "2", "q": "2", "sc_threshold": "1000000000"}, {}),
    "mpeg4 in avi": ("avi", "mpeg4", {"g": "12", "bf": "2", "q": "2", "sc_threshold": "1000000000"}, {}),
    "vp9": ("webm", "libvpx-vp9", {"g": "24", "cpu-used": "8", "lag-in-frames": "12"}, {}),
}


def picture(number: int) -> np.ndarray:
    """A frame that carries its number as 8 bright or dark squares, over a moving texture."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    texture = 20 * np.sin((columns + 3 * number) / 5) * np.cos((rows - number) / 7)
    bit = (columns * 4 // WIDTH) + 4 * (rows * 2 // HEIGHT)
    grey = np.where((number >> bit) & 1, 200, 60) + texture
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def numbers(clip: np.ndarray) -> list[int]:
    """The numbers that the pictures of a clip (F, H, W, 3) carry."""
    F, H, W, _ = clip.shape
    squares = clip.reshape(F, 2, H // 2, 4, W // 4, 3).mean(axis=(2, 4, 5)).reshape(F, 8)
    return [int(row) for row in (squares > 130) @ (1 << np.arange(8))]


def encode(path: Path, encoding: str = "h264, keyframe every 12", count: int = 60, times=None, container=None):
    _, codec, options, container_options = ENCODINGS[encoding]
    with av.open(str(path), "w", options=container or container_options) as output:
        stream = output.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, 30)
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts = i if times is None else times[i]
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def mux_film(
    path: Path,
    *,
    count: int = 40,
    first: int = 0,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    sound: tuple[str, float] | None = None,
    subtitle_end: float | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    rate: int = 10,
    container_format: str | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """Write `count` pictures numbered from `first` beside sound (codec, seconds) or a subtitle.

    The streams are interleaved by time, as any muxer would.
    """
    options = {"g": "20", "bf": "2", "sc_threshold": "0"} if codec == "libx264" and options is None else options
    with av.open(f"file:{path}", "w", format=container_format, options=container or {}) as output:
        stream = output.add_stream(codec, rate=rate, options=options or {"g": "20", "q": "2"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, rate)
        packets = []
        if sound:
            packets = _sound_packets(output.add_stream(sound[0], rate=48000, layout="stereo", bit_rate=64000), sound[1])
        if subtitle_end:
            subtitles = output.add_stream("subrip")
            subtitles.codec_context.subtitle_header = SUBTITLE_STYLES
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(picture(first + i), format="rgb24").reformat(*size)
            frame.pts, frame.time_base = i, Fraction(1, rate)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if subtitle_end:
            subtitle = av.Packet(b"text")
            subtitle.stream, subtitle.time_base = subtitles, Fraction(1, 1000)
            subtitle.pts = subtitle.dts = 500
            subtitle.duration = round(1000 * subtitle_end) - 500
            packets.append(subtitle)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return path


def _sound_packets(stream: av.AudioStream, seconds: float) -> list[av.Packet]:
    tone = np.sin(np.arange(round(48000 * seconds), dtype=np.float32) * 0.05)
    frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    resampler = av.AudioResampler(stream.codec_context.format, "stereo", 48000)
    encoded = [packet for part in resampler.resample(frame) for packet in stream.encode(part)]
    return encoded + stream.encode(None)


def remux(path: Path, sources: list[Path], dispositions: list[int] | None = None, **options) -> Path:
    """The picture streams of `sources` side by side, in that order, with the given dispositions."""
    with ExitStack() as stack:
        output = stack.enter_context(av.open(str(path), "w", options=options))
        packets = []
        for i, source in enumerate(stack.enter_context(av.open(str(source))) for source in sources):
            stream = output.add_stream_from_template(source.streams.video[0])
            if dispositions:
                stream.disposition = dispositions[i]
            for packet in (packet for packet in source.demux(video=0) if packet.size):
                packet.stream = stream
                packets.append(packet)
        for packet in sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base):
            output.mux(packet)
    return path
