"""Copies of videos that every browser plays: H.264 and AAC in MP4, with the index first."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.video.stream import VideoStream

from microlens.files.writing import atomic_write
from microlens.media.faults import MediaFault, faults_of
from microlens.media.orientation import Orientation, frame_orientation
from microlens.media.pictures import MAX_PIXELS, limit_size
from microlens.media.processes import Killed, work
from microlens.media.reading import VIDEO_FORMATS, open_media
from microlens.media.streams import picture_streams, read_film

MOST_LINES = 720
WEB_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm")
WEB_CODECS = ("h264", "vp8", "vp9", "av1")
"""Codecs that Chromium and Firefox play in files with these suffixes."""

_WEB_SOUND = ("aac", "mp3", "opus", "vorbis", "flac")
_EIGHT_BITS = ("yuv420p", "yuvj420p")
_CLOCK = Fraction(1, 90_000)
_PICTURE = {"preset": "veryfast", "crf": "23"}
_SOUND_BITS = 128_000


@dataclass(frozen=True)
class WebTask:
    """A video, and where its copy is written."""

    source: Path
    target: Path


@dataclass(frozen=True)
class WebOutcome:
    """What became of a video: ``plays`` without a copy, or was ``written``; ``faults`` says what is wrong with it."""

    plays: bool = False
    written: bool = False
    faults: tuple[str, ...] = ()


def copy_all(
    tasks: Sequence[WebTask], workers: int, on_progress: Callable[[int, int], None] | None = None
) -> dict[WebTask, WebOutcome]:
    """Write the copies of all videos that browsers do not play, in ``workers`` processes.

    A video that cannot be copied, or whose copying kills the process, has a fault and does not stop the others.

    Raises:
        InputError: worker processes do not start, or die independently of the task.
        OSError: the disk is full, or another system resource is exhausted; finished copies are kept.
    """
    outcomes: dict[WebTask, WebOutcome] = {}
    with closing(work(copy_if_needed, tasks, workers)) as results:
        for task, answer in results:
            killed = isinstance(answer, Killed)
            outcomes[task] = WebOutcome(faults=(f"copying it {answer.how}",)) if killed else answer
            if on_progress:
                on_progress(len(outcomes), len(tasks))
    return outcomes


def copy_if_needed(task: WebTask) -> WebOutcome:
    """Write the copy of one video, unless browsers play the video itself."""
    try:
        with faults_of(task.source):
            if plays_in_browsers(task.source):
                return WebOutcome(plays=True)
            with atomic_write(task.target) as temporary:
                faults = write_web_copy(task.source, temporary)
            return WebOutcome(written=True, faults=faults)
    except MediaFault as fault:
        return WebOutcome(faults=(str(fault),))


def plays_in_browsers(path: Path) -> bool:
    """True if Chromium and Firefox play a file, judging by its container and by the formats of its streams.

    Raises:
        MediaFault: the file is not a video.
    """
    with open_media(path, VIDEO_FORMATS) as container:
        pictures = picture_streams(container)
        if path.suffix.lower() not in WEB_SUFFIXES or len(pictures) != 1:
            return False
        sounds = all(stream.codec_context and stream.codec_context.name in _WEB_SOUND for stream in _sounds(container))
        return sounds and _is_web_picture(pictures[0])


def _sounds(container: InputContainer) -> tuple[AudioStream, ...]:
    return container.streams.audio


def _is_web_picture(stream: VideoStream) -> bool:
    context = stream.codec_context
    if context is None or context.codec.canonical_name not in WEB_CODECS:
        return False
    return context.codec.canonical_name != "h264" or context.pix_fmt in _EIGHT_BITS


def write_web_copy(source: Path, target: Path) -> tuple[str, ...]:
    """Write a copy in H.264 and AAC with at most ``MOST_LINES`` lines, upright, with square pixels.

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
        return _Copying(container, container.streams[index], output).run()


class _Copying:
    """Copies the pictures of one stream, and the first sound of the file, to another file."""

    def __init__(self, container: InputContainer, stream: Any, output: OutputContainer) -> None:
        self._container, self._output = container, output
        context = stream.codec_context
        limit_size(context.width, context.height)
        context.options = {"max_pixels": str(MAX_PIXELS)}
        context.thread_count = 1  # copies are written by one process per core
        sound = next((sound for sound in _sounds(container) if sound.codec_context is not None), None)
        self._pictures = _Pictures(stream, output)
        self._sound = None if sound is None else _Sound(sound, output)
        self._damaged = 0

    def run(self) -> tuple[str, ...]:
        """Copy everything; returns what was worked around."""
        pictures, sound = self._pictures, self._sound
        start = (self._container.start_time or 0) / av.time_base
        streams = [pictures.source] + ([] if sound is None else [sound.source])
        unreadable = ""
        for packet in self._packets(streams):
            if isinstance(packet, str):
                unreadable = packet
                break
            part = pictures if packet.stream_index == pictures.source.index else sound
            for frame in self._decoded(packet):
                if part is not None:
                    part.add(frame, start)
        for part in (pictures, sound):
            if part is not None:
                part.end()
        return tuple(self._faults(unreadable))

    def _packets(self, streams: list[Any]) -> Iterator[Any]:
        """The packets of the file, and at last the reason if it cannot be read to its end."""
        try:
            yield from self._container.demux(streams)
        except av.error.FFmpegError as error:
            yield error.strerror or "damaged"
        except IndexError:  # PyAV fails on a stream that appears after opening; by then all packets were read
            return

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = packet.decode()
        except av.error.FFmpegError:
            self._damaged += 1
            return []
        return frames

    def _faults(self, unreadable: str) -> Iterator[str]:
        if unreadable:
            yield f"the rest of the file cannot be read ({unreadable})"
        if self._damaged:
            yield f"{self._damaged} damaged packet{'s' if self._damaged > 1 else ''} skipped"


class _Pictures:
    """Turns, scales and encodes frames."""

    def __init__(self, source: VideoStream, output: OutputContainer) -> None:
        self.source, self._output = source, output
        self._graph: Graph | None = None
        self._shape: tuple[Any, ...] = ()
        self._stream: VideoStream | None = None
        self._last = -1
        rate = source.guessed_rate or source.average_rate
        self._rate = Fraction(rate) if rate and 1 <= rate <= 240 else Fraction(30)

    def add(self, frame: Any, start: float) -> None:
        """Encode a frame; one that is not later than the one before is left out."""
        step = max(1, round(1 / self._rate / _CLOCK))
        time = self._last + step if frame.time is None else round((frame.time - start) / _CLOCK)
        if self._stream is not None and time <= self._last:
            return
        time = max(0, time)
        self._last = time
        frame.pts, frame.time_base = time, _CLOCK
        shape = (frame.width, frame.height, frame.format.name)
        if shape != self._shape:
            self._graph, self._shape = self._new_graph(frame), shape
        assert self._graph is not None
        assert self._stream is not None
        self._graph.push(frame)
        upright: Any = self._graph.pull()
        upright.pict_type = 0
        self._output.mux(self._stream.encode(upright))

    def end(self) -> None:
        """Encode what is left.

        Raises:
            MediaFault: there was no frame.
        """
        if self._stream is None:
            raise MediaFault("damaged: no frame could be decoded")
        self._output.mux(self._stream.encode(None))

    def _new_graph(self, frame: Any) -> Graph:
        orientation = frame_orientation(frame)
        if self._stream is None:
            self._stream = self._new_stream(frame, orientation)
        graph = Graph()
        size = f"{self._stream.width}:{self._stream.height}"
        steps = [*_turns(orientation), ("scale", size), ("setsar", "1"), ("format", "yuv420p")]
        nodes = [
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_CLOCK),
            *(graph.add(name, arguments) for name, arguments in steps),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        return graph

    def _new_stream(self, frame: Any, orientation: Orientation) -> VideoStream:
        width, height = round(frame.width * float(self.source.sample_aspect_ratio or 1)), frame.height
        if orientation.transposed:
            width, height = height, width
        scale = min(1.0, MOST_LINES / height)
        stream = self._output.add_stream("libx264", rate=self._rate, options=_PICTURE)
        stream.width, stream.height = _even(width * scale), _even(height * scale)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _CLOCK
        stream.codec_context.thread_count = 1
        return stream


class _Sound:
    """Encodes the frames of a sound track."""

    def __init__(self, source: AudioStream, output: OutputContainer) -> None:
        self.source, self._output = source, output
        self._resampler: av.AudioResampler | None = None
        channels = source.codec_context.channels
        self._stream = output.add_stream("aac", rate=48_000, layout="mono" if channels == 1 else "stereo")
        self._stream.bit_rate = _SOUND_BITS
        self._shape: tuple[Any, ...] = ()
        self._samples = 0

    def add(self, frame: Any, start: float) -> None:
        """Encode a frame; silence fills a gap before it."""


def _turns(orientation: Orientation) -> list[tuple[str, str | None]]:
    turns: list[tuple[str, str | None]] = [("transpose", "cclock_flip")] if orientation.transposed else []
    turns += [("hflip", None)] if orientation.mirrored else []
    turns += [("vflip", None)] if orientation.flipped else []
    return turns


def _even(size: float) -> int:
    """The nearest even number, as 4:2:0 needs it."""
    return max(2, 2 * round(size / 2))
