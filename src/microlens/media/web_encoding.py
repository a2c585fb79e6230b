"""Encoding of any video as H.264 and AAC in MP4, with the index first, so that playing can begin at once."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.video.stream import VideoStream

from microlens.media.faults import MediaFault
from microlens.media.orientation import Orientation, frame_orientation
from microlens.media.pictures import MAX_PIXELS, limit_size
from microlens.media.reading import VIDEO_FORMATS, open_media
from microlens.media.streams import picture_streams, read_film

MOST_LINES = 720
_CLOCK = Fraction(1, 90_000)
_PICTURE = {"preset": "veryfast", "crf": "23"}
_SOUND_BITS = 128_000
_SOUND_RATE = 48_000
_FILL_GAPS = {"async": str(_SOUND_RATE)}
_MOST_FRAMES_A_SECOND = 240


def encode_for_browsers(source: Path, target: Path) -> tuple[str, ...]:
    """Write a video upright, with square pixels and at most ``MOST_LINES`` lines, and with its first sound track.

    Returns:
        What was worked around.

    Raises:
        MediaFault: no frame can be decoded.
    """
    with open_media(source, VIDEO_FORMATS) as container:
        thorough = not picture_streams(container)
    with open_media(source, VIDEO_FORMATS, thorough=thorough) as container:
        if not picture_streams(container):
            raise MediaFault("no video stream")
        index = read_film(container).stream.index
    with (
        open_media(source, VIDEO_FORMATS, thorough=thorough) as container,
        av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as output,
    ):
        return tuple(_copy(container, index, output))


def _copy(container: InputContainer, index: int, output: OutputContainer) -> Iterator[str]:
    """Encode a picture stream and the first sound; yields what was worked around."""
    stream: Any = container.streams[index]
    limit_size(stream.codec_context.width, stream.codec_context.height)
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    stream.codec_context.thread_count = 1  # copies are written by one process per core
    heard = [sound for sound in container.streams.audio if sound.codec_context is not None][:1]
    reading = _Reading(container, [stream, *heard])
    pictures: _Pictures | None = None
    sounds: list[_Sound] = []
    waiting: list[Any] = []  # sound before the first picture, whose size is not known yet
    for frame in reading.frames():
        if not isinstance(frame, av.VideoFrame):
            waiting.append(frame)
        elif pictures is None:
            pictures = _Pictures(stream, frame, output)
            sounds = [_Sound(sound, output) for sound in heard]
        if pictures is not None and isinstance(frame, av.VideoFrame):
            pictures.add(frame, reading.start)
        while sounds and waiting:
            sounds[0].add(waiting.pop(0), reading.start)
    if pictures is None:
        raise MediaFault("damaged: no frame could be decoded")
    pictures.end()
    for sound in sounds:
        sound.end()
    yield from reading.faults()


class _Reading:
    """Decodes streams of a file, as far as possible."""

    def __init__(self, container: InputContainer, streams: list[Any]) -> None:
        self._container, self._streams = container, streams
        self._unreadable = ""
        self._damaged = 0
        self.start = Fraction(container.start_time or 0, av.time_base)

    def frames(self) -> Iterator[Any]:
        """The frames in the order of the file."""
        try:
            for packet in self._container.demux(self._streams):
                yield from self._decoded(packet)
        except av.error.FFmpegError as error:
            self._unreadable = error.strerror or "damaged"
        except IndexError:  # PyAV fails on a stream that appears after opening; by then all packets were read
            return

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = packet.decode()
        except av.error.FFmpegError:
            self._damaged += 1
            return []
        return frames

    def faults(self) -> Iterator[str]:
        """What could not be read."""
        if self._unreadable:
            yield f"the rest of the file cannot be read ({self._unreadable})"
        if self._damaged:
            yield f"{self._damaged} damaged packet{'s' if self._damaged > 1 else ''} skipped"


class _Pictures:
    """Turns, scales and encodes frames."""

    def __init__(self, source: VideoStream, first: av.VideoFrame, output: OutputContainer) -> None:
        self._output = output
        rate = source.guessed_rate or source.average_rate
        self._rate = Fraction(rate) if rate and 1 <= rate <= _MOST_FRAMES_A_SECOND else Fraction(30)
        self._stream: Any = output.add_stream("libx264", rate=self._rate, options=_PICTURE)
        self._stream.width, self._stream.height = _size(first, float(source.sample_aspect_ratio or 1))
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = _CLOCK
        self._stream.codec_context.thread_count = 1
        self._graph: Graph | None = None
        self._shape: tuple[int, int, str] | None = None
        self._last = -1

    def add(self, frame: av.VideoFrame, start: Fraction) -> None:
        """Encode a frame; one that is not shown after the one before is left out."""
        time = self._time(frame, start)
        if time <= self._last:
            return
        self._last = time
        frame.pts, frame.time_base = time, _CLOCK
        shape = (frame.width, frame.height, frame.format.name)
        if self._graph is None or shape != self._shape:
            self._graph, self._shape = self._new_graph(frame), shape
        self._graph.push(frame)
        upright: Any = self._graph.pull()
        upright.pict_type = av.video.frame.PictureType.NONE  # the encoder chooses its keyframes
        self._output.mux(self._stream.encode(upright))

    def _time(self, frame: av.VideoFrame, start: Fraction) -> int:
        if frame.pts is None or frame.time_base is None:
            return max(0, self._last + round(1 / (self._rate * _CLOCK)))
        return max(0, round((frame.pts * frame.time_base - start) / _CLOCK))

    def end(self) -> None:
        """Encode what is left."""
        self._output.mux(self._stream.encode(None))

    def _new_graph(self, frame: av.VideoFrame) -> Graph:
        graph = Graph()
        size = f"{self._stream.width}:{self._stream.height}"
        steps = [*_turns(frame_orientation(frame)), ("scale", size), ("setsar", "1"), ("format", "yuv420p")]
        source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_CLOCK)
        nodes = [graph.add(name, arguments) for name, arguments in steps]
        graph.link_nodes(source, *nodes, graph.add("buffersink")).configure()
        return graph


class _Sound:
    """Encodes a sound track; gaps become silence."""

    def __init__(self, source: Any, output: OutputContainer) -> None:
        self._output = output
        self._layout = "mono" if source.codec_context.layout.nb_channels == 1 else "stereo"
        self._stream: Any = output.add_stream("aac", rate=_SOUND_RATE, layout=self._layout)
        self._stream.bit_rate = _SOUND_BITS
        self._resampler: av.AudioResampler | None = None
        self._shape: tuple[str, str, int] | None = None

    def add(self, frame: av.AudioFrame, start: Fraction) -> None:
        """Encode a frame."""
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            self._flush()
            self._shape = shape
            self._resampler = av.AudioResampler("fltp", self._layout, _SOUND_RATE, options=_FILL_GAPS)
        if frame.pts is not None and frame.time_base is not None:
            frame.pts -= round(start / frame.time_base)
        self._encode(frame)

    def end(self) -> None:
        """Encode what is left."""
        self._flush()
        self._output.mux(self._stream.encode(None))

    def _flush(self) -> None:
        if self._resampler is not None:
            self._encode(None)

    def _encode(self, frame: av.AudioFrame | None) -> None:
        assert self._resampler is not None
        for resampled in self._resampler.resample(frame):
            self._output.mux(self._stream.encode(resampled))


def _size(frame: av.VideoFrame, pixel_ratio: float) -> tuple[int, int]:
    """Width and height of the copy, both even, because colours have half the resolution."""
    width, height = frame.width * pixel_ratio, float(frame.height)
    if frame_orientation(frame).transposed:
        width, height = height, width
    scale = min(1.0, MOST_LINES / height)
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))


def _turns(orientation: Orientation) -> list[tuple[str, str | None]]:
    """The filters that turn a stored picture upright."""
    turns: list[tuple[str, str | None]] = [("transpose", "cclock_flip")] if orientation.transposed else []
    turns += [("hflip", None)] if orientation.mirrored else []
    turns += [("vflip", None)] if orientation.flipped else []
    return turns
