"""Decoding of whole media files: every packet of the film and of its sound track, one frame in memory at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from microlens.media.faults import MediaFault, faults_of
from microlens.media.frames import frames_at_centres
from microlens.media.orientation import frame_orientation
from microlens.media.pictures import MAX_PIXELS, Pixels, limit_size
from microlens.media.reading import VIDEO_FORMATS, open_media
from microlens.media.sound_track import SOUND_FORMATS
from microlens.media.streams import Film, picture_streams, read_film
from microlens.media.timeline import Timeline, read_timeline

NUM_PICTURES = 3
"""Number of frames of a video that are kept as small pictures."""
PICTURE_SIZE = 32
MOST_PIXELS = 20_000_000_000
"""After this many decoded pixels, 12 minutes of 1280x720 at 30 frames a second, only keyframes are decoded."""
_MOST_PIXELS_OF_KEYFRAMES = 2 * MOST_PIXELS
# A sound track with a smaller share of damaged packets is heard as intact; decoders often reject the first packet.
_FEW_DAMAGED = 0.01
# Decoders leave out some frames of intact files, such as those that refer to frames before the first keyframe.
_MOST_FRAMES = 0.9


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The result of decoding a media file.

    ``faults`` lists what is wrong with it. ``pictures`` (P, 32, 32) uint8 are small grey frames, P = 0 for sound. A
    video also has the ``info`` duration (seconds), width and height (pixels, as shown), codec, num_frames (stated by
    the file), decoded (frames) and has_sound; that of a sound file is its duration.
    """

    faults: list[str]
    pictures: Pixels
    info: dict[str, Any]


def decode_video(path: Path) -> Decoded:
    """Decode a video file from its beginning to its end, and its first sound track.

    Memory does not grow with the length of the video. Very long videos are decoded in full up to :data:`MOST_PIXELS`.

    Raises:
        MediaFault: no frame can be decoded.
    """
    with faults_of(path):
        for thorough in (False, True):
            with open_media(path, VIDEO_FORMATS, thorough=thorough) as container:
                if not picture_streams(container):
                    continue
                film = read_film(container, headers_only=True)
                index = film.stream.index
                limit_size(film.stream.codec_context.width, film.stream.codec_context.height)
                timeline = read_timeline(container, film)
            if not len(timeline):
                raise MediaFault("truncated: no frame could be decoded")
            with open_media(path, VIDEO_FORMATS, thorough=thorough) as container:
                stream = next(stream for stream in container.streams.video if stream.index == index)
                return _decoded(container, replace(film, stream=stream), timeline)
        raise MediaFault("no video stream")


def decode_sound(path: Path) -> Decoded:
    """Decode the first sound track of a file from its beginning to its end.

    Raises:
        MediaFault: there is no sound track, or nothing can be decoded.
    """
    with faults_of(path), open_media(path, SOUND_FORMATS, thorough=True) as container:
        if not container.streams.audio:
            raise MediaFault("no sound track")
        run = _Run()
        for packet in _packets(container, [container.streams.audio[0]]):
            run.decode_sound(packet)
        if not run.samples:
            raise MediaFault("damaged: no sound could be decoded")
        duration = float(run.samples / run.sample_rate)
        return Decoded(faults=run.faults_of_sound(), pictures=_stacked([]), info={"duration": duration})


@dataclass
class _Run:
    """Counts of one pass over a file; ``wanted`` holds the numbers of the frames to keep, ascending."""

    wanted: list[int] = field(default_factory=list)
    frames: int = 0
    pixels: int = 0
    damaged: int = 0
    kept: list[VideoFrame] = field(default_factory=list)
    last: VideoFrame | None = None
    sound_packets: int = 0
    sound_damaged: int = 0
    samples: int = 0
    sample_rate: int = 1

    def decode_frames(self, packet: Any) -> None:
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            self.damaged += 1
            return
        for frame in frames:
            self.damaged += frame.is_corrupt
            while len(self.kept) < len(self.wanted) and self.frames >= self.wanted[len(self.kept)]:
                self.kept.append(frame)
            self.frames += 1
            self.pixels += frame.width * frame.height
            self.last = frame

    def decode_sound(self, packet: Any) -> None:
        self.sound_packets += 1
        try:
            for frame in packet.decode():
                self.samples += frame.samples
                self.sample_rate = frame.sample_rate
        except av.error.FFmpegError:
            self.sound_damaged += 1

    def faults_of_sound(self) -> list[str]:
        if self.sound_damaged <= _FEW_DAMAGED * self.sound_packets:
            return []
        return [f"damaged sound: {self.sound_damaged:,} of {self.sound_packets:,} packets cannot be decoded"]


def _decoded(container: InputContainer, film: Film, timeline: Timeline) -> Decoded:
    stream, context = film.stream, film.stream.codec_context
    context.options = {"max_pixels": str(MAX_PIXELS)}
    context.thread_count = 1  # one process per core
    sound = [track for track in container.streams.audio[:1] if track.codec_context is not None]
    run = _Run(wanted=frames_at_centres(timeline, NUM_PICTURES).tolist())
    for packet in _packets(container, [stream, *sound]):
        if packet.stream_index != stream.index:
            run.decode_sound(packet)
        elif run.pixels < _MOST_PIXELS_OF_KEYFRAMES:
            if run.pixels >= MOST_PIXELS:
                context.skip_frame = "NONKEY"
            run.decode_frames(packet)
    if run.last is None:
        raise MediaFault("damaged: no frame could be decoded")
    kept = run.kept + [run.last] * (NUM_PICTURES - len(run.kept))
    return Decoded(
        faults=[*_faults(film, timeline, run), *run.faults_of_sound()],
        pictures=_stacked([_small(frame) for frame in kept]),
        info=_info(film, timeline, run, has_sound=bool(container.streams.audio)),
    )


def _packets(container: InputContainer, streams: list[Any]) -> Iterator[Any]:
    try:
        yield from container.demux(streams)
    except (av.error.FFmpegError, IndexError):
        return  # the rest of the file is missing, which the timeline tells


def _faults(film: Film, timeline: Timeline, run: _Run) -> list[str]:
    faults = []
    there, expected = len(timeline), timeline.expected
    if there < expected:
        faults.append(f"truncated: {there:,} of {expected:,} frames are in the file")
    elif film.unreadable:
        faults.append(f"the rest of the file cannot be read ({film.unreadable})")
    elif film.first_part_only or timeline.first_part_only:
        faults.append("several files put together, of which only the first is read")
    if run.damaged:
        faults.append(f"damaged: {run.damaged:,} packet{'s' if run.damaged > 1 else ''} cannot be decoded")
    elif run.pixels < MOST_PIXELS and run.frames < _MOST_FRAMES * there:
        faults.append(f"damaged: {run.frames:,} of {there:,} frames could be decoded")
    return faults


def _info(film: Film, timeline: Timeline, run: _Run, *, has_sound: bool) -> dict[str, Any]:
    frame = run.last
    assert frame is not None
    width, height = max(1, round(frame.width * float(film.stream.sample_aspect_ratio or 1))), frame.height
    if frame_orientation(frame).transposed:
        width, height = height, width
    return {
        "duration": float((timeline.end - int(timeline.times[0])) * (film.stream.time_base or 0)),
        "width": width,
        "height": height,
        "codec": film.stream.codec_context.codec.canonical_name,
        "num_frames": timeline.expected,
        "decoded": run.frames,
        "has_sound": has_sound,
    }


def _small(frame: VideoFrame) -> NDArray[np.uint8]:
    small = frame.reformat(width=PICTURE_SIZE, height=PICTURE_SIZE, format="gray", interpolation="AREA")
    return np.ascontiguousarray(small.to_ndarray())


def _stacked(pictures: list[NDArray[np.uint8]]) -> Pixels:
    return np.array(pictures, np.uint8).reshape(-1, PICTURE_SIZE, PICTURE_SIZE)
