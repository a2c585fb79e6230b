"""Reading of raw videos and covers as pixels, including damaged, rotated and unusual files.

Frames are selected by presentation time, decoded exactly, turned upright, and scaled and converted to RGB in one pass.
A file either yields real pixels together with the faults that were worked around, or raises MediaFault.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from microlens.media.clip_settings import ClipSettings, Crop
from microlens.media.covers import StoredPicture, decode_picture
from microlens.media.faults import MediaFault, faults_of
from microlens.media.frames import FrameDecoder, frames_at_centres, frames_in_the_middle
from microlens.media.orientation import frame_orientation
from microlens.media.pictures import MAX_PIXELS, Pixels, limit_size, miniature, square
from microlens.media.shots import HEIGHT, WIDTH, find_shots, frames_of_shots
from microlens.media.streams import Film, picture_streams, read_film
from microlens.media.timeline import Timeline, read_timeline

__all__ = ["Clip", "ClipSettings", "Cover", "Crop", "MediaFault", "Pixels", "VideoInfo", "faults_of", "media_url"]
__all__ += ["open_media", "read_clip", "read_cover", "read_picture"]

# A closed list: otherwise FFmpeg would also read text files as videos and open the files named in a playlist.
VIDEO_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,live_flv,mpegts,mpeg,mpegvideo,asf,ogg,gif,rm,mxf,dv,ivf,nut,wtv"
)
_SEARCH_ALL = {"probesize": str(2**62), "analyzeduration": str(2**62), "scan_all_pmts": "1"}
_MAX_COVER_BYTES = 2**28

# Damage is reported through MediaFault and Clip.faults, not by FFmpeg on stderr.
av.logging.set_level(av.logging.PANIC)


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Properties of a video: duration in seconds, displayed width and height in pixels, fps in frames per second."""

    duration: float
    width: int
    height: int
    fps: float
    codec: str
    num_frames: int
    has_sound: bool


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames (F, H, W, 3) uint8 RGB of one video; `faults` lists what was worked around."""

    frames: Pixels
    info: VideoInfo
    faults: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Cover:
    """An upright picture (H, W, 3) uint8 RGB; `faults` lists what was worked around."""

    pixels: Pixels
    faults: tuple[str, ...]


def read_clip(path: Path, settings: ClipSettings) -> Clip:
    """Read the clip of a video file: F upright frames of H x W pixels.

    Raises:
        MediaFault: the file has no frame that can be decoded.
    """
    with faults_of(path):
        for thorough in (False, True):
            with open_media(path, VIDEO_FORMATS, thorough=thorough) as container:
                if picture_streams(container):
                    return _clip(container, settings)
        raise MediaFault("no video stream")


def _clip(container: InputContainer, settings: ClipSettings) -> Clip:
    film = read_film(container)
    context = film.stream.codec_context
    limit_size(context.width, context.height)
    context.options = {"max_pixels": str(MAX_PIXELS)}  # also limits frames, whatever the header says
    context.thread_count = 1  # preparation runs one process per core
    timeline = read_timeline(container, film)
    if not len(timeline):
        raise MediaFault("truncated: no frame could be decoded")
    decoder = FrameDecoder(context, timeline)
    if settings.frames == "keyframes":
        frames = decoder.nearest_keyframes(settings.num_frames)
    elif settings.frames == "shots":
        frames = decoder.exact(_by_shots(decoder, settings.num_frames))
    else:
        choose = frames_at_centres if settings.frames == "spread" else frames_in_the_middle
        frames = decoder.exact(choose(timeline, settings.num_frames))
    if not frames:
        too_large = "" if context.width else f"; accepted are pictures of up to {MAX_PIXELS:,} pixels"
        raise MediaFault(f"damaged: no frame could be decoded{too_large}")
    pixel_ratio = float(film.stream.sample_aspect_ratio or 1)
    pixels = {
        id(frame): square(frame, settings.size, settings.crop, frame_orientation(frame), pixel_ratio)
        for frame in frames
    }
    return Clip(
        frames=np.stack([pixels[id(frame)] for frame in frames]),
        info=_describe(container, film, timeline, frames[0]),
        faults=_survived(film, timeline, decoder),
    )


def _by_shots(decoder: FrameDecoder, number: int) -> NDArray[np.int64]:
    """Choose frames by the shots of the video; none if it has no good frame."""
    numbers, pictures = [], []
    for index, frame in decoder.every():
        numbers.append(index)
        pictures.append(miniature(frame, HEIGHT, WIDTH, frame_orientation(frame)))
    if not numbers:
        return np.empty(0, np.int64)
    shots = find_shots(np.stack(pictures))
    return np.array(numbers, np.int64)[frames_of_shots(shots, number)]


def read_cover(path: Path, size: int, crop: Crop) -> Cover:
    """Read a cover picture (JPEG, PNG, WebP, GIF, BMP, AVIF, TIFF), upright, with H = W = size.

    Raises:
        MediaFault: the file is not a complete picture.
    """
    with faults_of(path):
        picture = _stored_picture(path)
        frame = av.VideoFrame.from_ndarray(picture.pixels, format="rgb24")
        return Cover(pixels=square(frame, size, crop, picture.orientation), faults=picture.faults)


def read_picture(path: Path) -> Cover:
    """Read a picture like :func:`read_cover`, in its own size.

    Raises:
        MediaFault: the file is not a complete picture.
    """
    with faults_of(path):
        picture = _stored_picture(path)
        pixels = np.ascontiguousarray(picture.orientation.upright(picture.pixels))
        return Cover(pixels=pixels, faults=picture.faults)


def _stored_picture(path: Path) -> StoredPicture:
    _require_content(path)
    if path.stat().st_size > _MAX_COVER_BYTES:
        raise MediaFault(f"the file is too large for a cover; accepted are up to {_MAX_COVER_BYTES >> 20} MiB")
    return decode_picture(path.read_bytes())


@contextmanager
def open_media(path: Path, formats: str, *, thorough: bool = False) -> Iterator[InputContainer]:
    """Open a media file for reading, restricted to the given container formats.

    Streams are detected in the first megabytes and seconds, or in the whole file if `thorough`.

    Raises:
        MediaFault: the file is missing, empty or not of these formats.
    """
    _require_content(path)
    options = {"format_whitelist": formats, "max_pixels": str(MAX_PIXELS)}
    try:
        container = av.open(
            media_url(path), metadata_errors="ignore", options=options | (_SEARCH_ALL if thorough else {})
        )
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaFault(_why_not_opened(path, error)) from None
    with container:
        yield container


def media_url(path: Path) -> str:
    """The URL of a file for FFmpeg, which would otherwise take text before a colon as a protocol."""
    return f"file:{path}"


def _require_content(path: Path) -> None:
    if not path.is_file():
        raise MediaFault("there is no such file")
    if path.stat().st_size == 0:
        raise MediaFault("the file is empty")


def _why_not_opened(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(8)
    if start[4:] == b"ftyp":
        return "truncated: the index (moov) is missing or damaged"
    return f"not a media file of a known kind ({getattr(error, 'strerror', None) or error})"


def _describe(container: InputContainer, film: Film, timeline: Timeline, frame: av.VideoFrame) -> VideoInfo:
    width, height = max(1, round(frame.width * float(film.stream.sample_aspect_ratio or 1))), frame.height
    if frame_orientation(frame).transposed:
        width, height = height, width
    duration = float((timeline.end - int(timeline.times[0])) * (film.stream.time_base or 0))
    return VideoInfo(
        duration=duration,
        width=width,
        height=height,
        fps=timeline.expected / duration if duration else 0.0,
        codec=film.stream.codec_context.codec.canonical_name,
        num_frames=timeline.expected,
        has_sound=bool(container.streams.audio),
    )


def _survived(film: Film, timeline: Timeline, decoder: FrameDecoder) -> tuple[str, ...]:
    faults = []
    if len(timeline) < timeline.expected:
        read, expected = len(timeline), timeline.expected
        faults.append(f"truncated: read {read} of {expected} frames; the last good frame repeated")
    elif film.unreadable:
        faults.append(f"the rest of the file cannot be read ({film.unreadable})")
    elif film.first_part_only or timeline.first_part_only:
        faults.append("only the first of several files put together is read")
    if decoder.damaged:
        number = len(decoder.damaged)
        faults.append(f"{number} damaged packet{'s' if number > 1 else ''} skipped")
    return tuple(faults)
