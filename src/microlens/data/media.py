"""Raw videos and covers as pixels: the one place where the package meets damaged, rotated and odd files.

Frames are chosen by presentation time, decoded exactly, turned upright, and scaled and converted to RGB in one pass.
A file either yields real pixels, with what had to be survived stated beside them, or raises MediaFault.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import av
import numpy as np
import simplejpeg
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from microlens.data.frames import (
    FrameDecoder,
    Sampling,
    Timeline,
    frames_at_centres,
    frames_in_the_middle,
    read_timeline,
)
from microlens.errors import InputError

Crop: TypeAlias = Literal["squash", "center"]
Pixels: TypeAlias = NDArray[np.uint8]

# A closed list: the library would otherwise also read text files as videos and fetch what a playlist names.
VIDEO_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,live_flv,mpegts,mpeg,mpegvideo,asf,ogg,mxf,dv,rm,gif"
_IMAGE_FORMATS = "png_pipe,webp_pipe,jpeg_pipe,bmp_pipe,tiff_pipe,gif"
_JPEG_START = b"\xff\xd8"
_FAILURES_OF_THE_MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT}

# Damaged files are reported through MediaFault and Clip.faults, not by the library on stderr.
av.logging.set_level(av.logging.PANIC)


class MediaFault(Exception):  # noqa: N818 - the file is at fault, not the program
    """A media file that cannot be used; its text is one short plain reason."""


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """How a video becomes a clip.

    frames: `spread` takes the frame on screen at the centre of each of F equal parts of the video's time; `middle`
    F consecutive frames around the middle one, as the original research code did; `keyframes` the keyframes nearest
    to the centres, decoding nothing else. num_frames: F. size: H = W in pixels. crop: `squash` scales the whole
    picture to the square, `center` scales its short side and cuts the middle.

    Raises:
        InputError: a value is not among those accepted.
    """

    frames: Sampling = "spread"
    num_frames: int = 5
    size: int = 224
    crop: Crop = "squash"

    def __post_init__(self) -> None:
        if self.frames not in get_args(Sampling):
            raise InputError(f"clip settings: frames is {self.frames!r}; accepted are {', '.join(get_args(Sampling))}")
        if self.crop not in get_args(Crop):
            raise InputError(f"clip settings: crop is {self.crop!r}; accepted are {', '.join(get_args(Crop))}")
        if not 1 <= self.num_frames <= 1024:
            raise InputError(f"clip settings: num_frames is {self.num_frames}; accepted are 1 to 1024")
        if not 8 <= self.size <= 4096:
            raise InputError(f"clip settings: size is {self.size}; accepted are 8 to 4096 pixels")


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video is: duration in seconds, width and height in pixels as displayed, frames per second."""

    duration: float
    width: int
    height: int
    fps: float
    codec: str
    num_frames: int
    has_sound: bool


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames (F, H, W, 3) uint8 RGB of one video; `faults` says what had to be survived to get them."""

    frames: Pixels
    info: VideoInfo
    faults: tuple[str, ...]


def read_clip(path: Path, settings: ClipSettings) -> Clip:
    """The clip of one video file: F upright frames of H x W pixels.

    Raises:
        MediaFault: the file has no frame that can be decoded.
    """
    with open_media(path, VIDEO_FORMATS) as container:
        stream = _picture_stream(container)
        context = stream.codec_context
        context.thread_count = 1  # preparation runs one process a core
        timeline = read_timeline(container, stream)
        if not len(timeline):
            raise MediaFault("truncated: no frame could be decoded")
        decoder = FrameDecoder(context, timeline)
        if settings.frames == "keyframes":
            decoded = decoder.nearest_keyframes(settings.num_frames)
        else:
            choose = frames_at_centres if settings.frames == "spread" else frames_in_the_middle
            decoded = decoder.exact(choose(timeline, settings.num_frames))
        good = [frame for frame in decoded if frame is not None]
        if not good:
            raise MediaFault("damaged: no frame could be decoded")
        ratio = float(stream.sample_aspect_ratio or 1)
        pixels = {id(frame): _upright_pixels(frame, settings.size, settings.crop, ratio) for frame in good}
        return Clip(
            frames=np.stack([pixels[id(frame)] for frame in good]),
            info=_describe(container, stream, timeline, good[0]),
            faults=_survived(timeline, decoder),
        )


def read_cover(path: Path, size: int, crop: Crop) -> Pixels:
    """A cover picture (jpg, png, webp) as (H, W, 3) uint8 RGB with H = W = size.

    Raises:
        MediaFault: the file is not a whole picture.
    """
    _require_content(path)
    data = path.read_bytes()
    if data.startswith(_JPEG_START):
        try:
            frame = av.VideoFrame.from_ndarray(simplejpeg.decode_jpeg(data, colorspace="RGB"), format="rgb24")
        except ValueError as error:
            raise MediaFault(f"not a whole JPEG picture ({error})") from None
        return _upright_pixels(frame, size, crop)
    with open_media(path, _IMAGE_FORMATS) as container:
        try:
            decoded = next(container.decode(video=0), None)
        except av.error.FFmpegError as error:
            raise MediaFault(f"not a whole picture ({error.strerror})") from None
        if decoded is None or decoded.is_corrupt:
            raise MediaFault("not a whole picture")
        return _upright_pixels(decoded, size, crop)


@contextmanager
def faults_of(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while the file ``path`` is read into its MediaFault, so that no file stops a job.

    What is no fault of the file passes: no memory for the process, no file handles, a full disk.
    """
    try:
        yield
    except MediaFault:
        raise
    except av.error.FFmpegError as error:  # before the next, because some of these are MemoryError and OSError, too
        raise MediaFault(f"it cannot be decoded ({error.strerror})") from error
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FAILURES_OF_THE_MACHINE:
            raise
        why = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        raise MediaFault(f"it cannot be read ({why})") from error


@contextmanager
def open_media(path: Path, formats: str) -> Iterator[InputContainer]:
    """A media file opened for reading, restricted to the named container formats.

    Raises:
        MediaFault: the file is missing, empty, or none of those formats.
    """
    _require_content(path)
    try:
        container = av.open(str(path), metadata_errors="ignore", options={"format_whitelist": formats})
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaFault(_why_not_opened(path, error)) from None
    with container:
        yield container


def _require_content(path: Path) -> None:
    if not path.is_file():
        raise MediaFault("there is no such file")
    if path.stat().st_size == 0:
        raise MediaFault("the file is empty")


def _why_not_opened(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(12)
    if start[4:8] == b"ftyp":
        return "truncated: the index (moov) is missing or damaged"
    return f"not a media file of a known kind ({getattr(error, 'strerror', None) or error})"


def _picture_stream(container: InputContainer) -> VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise MediaFault("no video stream")


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Counter-clockwise quarter turns that bring the frame upright."""
    return round(frame.rotation / 90) % 4


def _upright_pixels(frame: av.VideoFrame, size: int, crop: Crop, pixel_ratio: float = 1.0) -> Pixels:
    """One frame as (size, size, 3); `pixel_ratio` is the width of its pixels over their height."""
    width = height = size
    if crop == "center":
        shown_width = frame.width * pixel_ratio
        scale = size / min(shown_width, frame.height)
        width, height = max(size, round(shown_width * scale)), max(size, round(frame.height * scale))
    scaled = frame.reformat(width=width, height=height, format="rgb24", interpolation="BILINEAR").to_ndarray()
    upright = np.rot90(scaled, _quarter_turns(frame))
    top, left = (upright.shape[0] - size) // 2, (upright.shape[1] - size) // 2
    return np.ascontiguousarray(upright[top : top + size, left : left + size])


def _describe(container: InputContainer, stream: VideoStream, timeline: Timeline, frame: av.VideoFrame) -> VideoInfo:
    width, height = round(frame.width * float(stream.sample_aspect_ratio or 1)), frame.height
    if _quarter_turns(frame) % 2:
        width, height = height, width
    duration = float((timeline.end - int(timeline.times[0])) * (stream.time_base or 0))
    return VideoInfo(
        duration=duration,
        width=width,
        height=height,
        fps=timeline.expected / duration if duration else 0.0,
        codec=stream.codec_context.codec.canonical_name,
        num_frames=timeline.expected,
        has_sound=bool(container.streams.audio),
    )


def _survived(timeline: Timeline, decoder: FrameDecoder) -> tuple[str, ...]:
    faults = []
    if len(timeline) < timeline.expected:
        read, expected = len(timeline), timeline.expected
        faults.append(f"truncated: read {read} of {expected} frames; the last good frame repeated")
    if decoder.damaged:
        number = len(decoder.damaged)
        faults.append(f"{number} damaged packet{'s' if number > 1 else ''} skipped")
    return tuple(faults)
